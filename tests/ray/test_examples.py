"""The examples for clusters run on this machine, which plays each of the machines."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.many.test_shards import make_pictures, read

CLUSTER = Path(__file__).parent.parent.parent / "examples" / "cluster"
DATA = Path(__file__).parent.parent / "data" / "nuclei"
PROGRAMS = {"condinst": "condinst", "accelerate": "accelerate.commands.accelerate_cli"}


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """An environment with the programs of this interpreter."""
    (tmp_path / "bin").mkdir()
    for name, module in PROGRAMS.items():
        program = tmp_path / "bin" / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        program.chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_slurm_and_kubernetes_share_the_shards(tmp_path: Path, env: dict[str, str]) -> None:
    """Two of eight machines; the one picture is in the shard of the first."""
    picture = str(next(make_pictures(tmp_path / "cells", 1).glob("*0.png")))
    (tmp_path / "list.txt").write_text(picture)
    env |= {"SLURM_CPUS_PER_TASK": "1", "SLURM_ARRAY_TASK_COUNT": "8", "SLURM_ARRAY_TASK_ID": "1"}
    (container,) = yaml.safe_load((CLUSTER / "job.yaml").read_text())["spec"]["template"]["spec"]["containers"]
    pod = container["args"][0].replace("/data", str(tmp_path)).replace("--workers 16", "--workers 1")
    script = ["bash", str(CLUSTER / "slurm.sh"), str(tmp_path / "list.txt"), str(tmp_path / "slurm")]
    for command, out in ((script, "slurm"), ([*container["command"], pod], "results")):
        for index in ("1", "0"):
            given = env | {"JOB_COMPLETION_INDEX": index, "SLURM_ARRAY_TASK_ID": str(int(index) + 1)}
            done = subprocess.run(command, env=given, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            assert len(read(tmp_path / out)) == 1 - int(index)


@pytest.mark.slow
def test_two_machines_train_together(tmp_path: Path, env: dict[str, str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    files = ["--data", DATA / "train.json", "--images", DATA / "images", "--out", tmp_path / "run"]
    settings = ["train.iterations=1", "train.batch_size=2", "train.workers=0", "train.init=none", "train.precision=no"]
    settings += ["augment.shorter=[64]", "augment.crop=0", "train.validate_every=0"]
    command = list(map(str, ["bash", CLUSTER / "train.sh", "--recipe", "small", *files, *settings]))
    env |= {"FIRST": "127.0.0.1", "PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    machines = [
        subprocess.Popen(
            command,
            env=env | {"RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in ("0", "1")
    ]
    for machine in machines:
        said, _ = machine.communicate(timeout=200)
        assert machine.returncode == 0, said
    assert (tmp_path / "run" / "model.safetensors").is_file()

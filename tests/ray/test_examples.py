"""The examples for clusters run on this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.many.test_shards import PICTURE, read

ROOT = Path(__file__).parent.parent.parent
CLUSTER, DATA = ROOT / "examples" / "cluster", ROOT / "tests" / "data" / "nuclei"


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """An environment with the programs of this interpreter."""
    for name, module in (("condinst", "condinst"), ("accelerate", "accelerate.commands.accelerate_cli")):
        (tmp_path / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        (tmp_path / name).chmod(0o755)
    return os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_slurm_and_kubernetes_predict_their_shards(tmp_path: Path, env: dict[str, str]) -> None:
    (tmp_path / "list.txt").write_text(str(PICTURE.absolute()))
    (container,) = yaml.safe_load((CLUSTER / "job.yaml").read_text())["spec"]["template"]["spec"]["containers"]
    pod = container["args"][0].replace("/data", str(tmp_path)).replace("--workers 16", "--workers 1")
    script = ["bash", CLUSTER / "slurm.sh", tmp_path / "list.txt", tmp_path / "slurm"]
    env |= {"SLURM_CPUS_PER_TASK": "1", "SLURM_ARRAY_TASK_COUNT": "8", "SLURM_ARRAY_TASK_ID": "1"}
    for command, out in ((script, "slurm"), ([*container["command"], pod], "results")):
        subprocess.run(command, env=env | {"JOB_COMPLETION_INDEX": "0"}, check=True)
        assert [one["source"] for one in read(tmp_path / out)] == [str(PICTURE.absolute())]


@pytest.mark.slow
def test_two_machines_train_together(tmp_path: Path, env: dict[str, str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    files = ["--data", DATA / "train.json", "--images", DATA / "images", "--out", tmp_path / "run"]
    settings = ["train.iterations=1", "train.batch_size=2", "train.workers=0", "train.init=none", "train.precision=no"]
    settings += ["augment.shorter=[64]", "augment.crop=0", "train.validate_every=0"]
    command = ["bash", CLUSTER / "train.sh", "--recipe", "small", *files, *settings]
    env |= {"FIRST": "127.0.0.1", "PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    machines = [subprocess.Popen(command, env=env | {"RANK": rank}) for rank in ("0", "1")]
    assert [machine.wait(200) for machine in machines] == [0, 0]
    assert (tmp_path / "run" / "model.safetensors").is_file()

"""A run that is killed, again and again and wherever it is, ends as one that was left alone, to the bit."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

NUCLEI = Path(__file__).parent.parent / "data" / "nuclei"
CONFIG: dict[str, Any] = {
    "model": {
        "backbone": {"name": "mobilenetv2_035", "norm": "affine", "frozen_stages": 0},
        "fpn_channels": 16,
        "head": {"convs": 1, "channels": 16},
        "mask_branch": {"convs": 1, "channels": 8},
    },
    "input": {"shorter": 64, "longer": 96},
    "augment": {"shorter": [64, 96], "longer": 128, "jitter": [0.8, 1.25], "crop": 80, "turns": True, "hue": 0.1},
    "targets": {"max_mask_positives": 20},
    "train": {
        "init": "none",
        "iterations": 14,
        "batch_size": 2,
        "accumulate": 2,
        "optimizer": "adamw",
        "lr": 0.001,
        "ema_decay": 0.9,
        "workers": 0,
        "warmup_iterations": 2,
        "log_every": 2,
        "checkpoint_every": 3,
        "validate_every": 4,
        "patience": 2,
    },
}
# Everything is imported once and each attempt forked off, so that most of its time can be killed in.
SCRIPT = """
import json, os, random, signal, sys, time
from itertools import count
from pathlib import Path
from condinst.config import Config
from condinst.data.formats.coco.read import read_coco
from condinst.engine import checkpoint, train as engine

nuclei, whole, parts, config = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), json.loads(sys.argv[4])
config = Config.from_dict(config)
data, val = (read_coco(nuclei / f"{split}.json", nuclei / "images") for split in ("train", "val"))
evaluate, save_file, os_replace = engine.evaluate, checkpoint.save_file, os.replace
os.replace = lambda *names: slow_replace(*names)

def slow_evaluate(data, predictor, limit):
    '''Long enough to be hit. An untrained network finds nothing, so its scores are made up: better, worse, better.'''
    (current / "measuring").touch()
    time.sleep(0.15)
    scores = evaluate(data, predictor, limit)
    (current / "measuring").unlink()
    made_up = {4: 0.25, 8: 0.125, 12: 0.5, 14: 0.375}[step[0]]
    return type(scores)(**vars(scores) | {"segm": type(scores.segm)(**vars(scores.segm) | {"AP": made_up})})

def slow_save(*inputs):
    save_file(*inputs)
    time.sleep(0.1)

def slow_replace(source, target):
    time.sleep(0.05)
    os_replace(source, target)

def start(folder):
    global current
    current = folder
    folder.mkdir(exist_ok=True)
    child = os.fork()
    if not child:
        try:
            engine.train(config, data, folder, resume=True, val=val)
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    return child

step = [0]
record = engine.record_scores
measure = engine._measure
def told(*inputs):
    inner = measure(*inputs)
    def outer(module, iteration, best):
        step[0] = iteration
        return inner(module, iteration, best)
    return outer
passes, losses = count(1), engine.condinst_losses
def counted(*inputs, **options):
    (current / "passes").write_text(str(next(passes)))
    return losses(*inputs, **options)
engine.evaluate, checkpoint.save_file, engine._measure, engine.condinst_losses = slow_evaluate, slow_save, told, counted

assert os.waitpid(start(whole), 0)[1] == 0

moments = {
    "checkpoint": lambda: any(parts.glob(".checkpoint-*.tmp/*")),
    "measuring": lambda: (parts / "measuring").exists(),
    "best": lambda: any(parts.glob(".model.safetensors.*")),
}
def passed():
    path = parts / "passes"
    return int(path.read_text() or 0) if path.exists() else 0

# after so many forward passes of this attempt, and then a little later
attempts = ["checkpoint", random.randint(1, 6), "measuring", random.randint(1, 6), "best", random.randint(1, 6)]
for attempt in attempts:
    child = start(parts)
    while not (moments[attempt]() if isinstance(attempt, str) else passed() >= attempt):
        assert not os.waitpid(child, os.WNOHANG)[0], f"ended before {attempt}"
        time.sleep(0.002)
    if isinstance(attempt, int):
        time.sleep(random.uniform(0, 0.05))
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    for name in ("measuring", "passes"):
        (parts / name).unlink(missing_ok=True)
assert os.waitpid(start(parts), 0)[1] == 0
for folder in (whole, parts):
    (folder / "passes").unlink()
print(json.dumps(attempts))
"""


def rows(path: Path) -> list[dict[str, str]]:
    """Without what a clock or the machine says."""
    with path.open(newline="") as file:
        return [
            {key: value for key, value in row.items() if key not in ("images_per_second", "memory_mb")}
            for row in csv.DictReader(file)
        ]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills what it forks")
def test_killed_at_any_moment(tmp_path: Path) -> None:
    """With moving average, accumulation, early stopping and the best weights kept; rows of the log half full."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(NUCLEI), str(whole), str(parts), json.dumps(CONFIG)],
        env=os.environ
        | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(json.loads(done.stdout)) == 6
    for name in ("model.safetensors", "last/model.safetensors", "config.yaml"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes(), name
    assert (whole / "model.safetensors").read_bytes() != (whole / "last/model.safetensors").read_bytes()
    assert rows(whole / "log.csv") == rows(parts / "log.csv")
    assert [row["iteration"] for row in rows(whole / "log.csv")] == ["2", "4", "6", "8", "10", "12", "14"]
    assert (whole / "scores.csv").read_bytes() == (parts / "scores.csv").read_bytes()
    assert (whole / "scores.jsonl").read_bytes() == (parts / "scores.jsonl").read_bytes()
    assert [row["mask_AP"] for row in rows(parts / "scores.csv")] == ["0.25", "0.125", "0.5", "0.375"]
    left = {path.name for path in parts.iterdir()}
    assert left == {path.name for path in whole.iterdir()}
    assert not [name for name in left if name.startswith(".")]

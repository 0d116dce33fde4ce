"""Kill training runs with SIGKILL at random moments, resume them, and compare them with a run that was left alone.

    python -m benchmarks.survival.kill_training --kills 200

Everything is imported once, and each attempt is a forked process. A kill aims at one phase (a step, a checkpoint, a
measurement, the record of the scores) and meets it at a random moment. Writing and measuring are slowed down a little,
so that their parts are met too.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.survival.phases import Phases, finish, fork, kill_many, report
from condinst.config import Config
from condinst.data.formats.coco.read import read_coco
from condinst.data.sample import AnnotatedData
from condinst.engine import checkpoint, fit
from condinst.engine import train as engine
from condinst.evaluation.evaluate import Scores

NUCLEI = Path(__file__).parent.parent.parent / "tests" / "data" / "nuclei"
CONFIG: dict[str, Any] = {
    "model": {
        "backbone": {"name": "test_resnet", "norm": "affine", "frozen_stages": 0},
        "fpn_channels": 16,
        "head": {"convs": 1, "channels": 16},
        "mask_branch": {"convs": 1, "channels": 8},
    },
    "input": {"shorter": 64, "longer": 96},
    "augment": {"shorter": [64, 80], "longer": 96, "jitter": [0.8, 1.25], "crop": 64, "turns": True, "hue": 0.1},
    "targets": {"max_mask_positives": 20},
    "train": {
        "init": "none",
        "iterations": 10,
        "batch_size": 1,
        "accumulate": 2,
        "optimizer": "adamw",
        "lr": 0.001,
        "ema_decay": 0.9,
        "workers": 0,
        "warmup_iterations": 2,
        "log_every": 3,
        "checkpoint_every": 2,
        "validate_every": 3,
        "patience": 2,
    },
}
AP = {3: 0.25, 6: 0.125, 9: 0.5, 10: 0.375}  # made up, as an untrained network finds nothing: better, worse, better
WEIGHTS = ("model.safetensors", "last/model.safetensors", "config.yaml", "scores.csv", "scores.jsonl")
CLOCK = ("images_per_second", "memory_mb", "readers_mb")  # columns of log.csv that no two runs share
EACH = 12  # kills of one run, at most
STEP, CHECKPOINT, MEASURE, RECORD, MODEL = "step", "checkpoint", "measurement", "scores", "model"


def mark_phases(seconds: float) -> Phases:
    """Mark the phases of training, and slow down the writing of files and the measuring."""
    phases = Phases((STEP, CHECKPOINT, MEASURE, RECORD, MODEL))
    save, os_replace = checkpoint.save, os.replace

    def slow_save(*inputs: Any) -> bytes:
        time.sleep(seconds)
        return save(*inputs)

    def slow_replace(source: Any, target: Any) -> None:
        time.sleep(seconds)
        os_replace(source, target)

    checkpoint.save, os.replace = slow_save, slow_replace
    phases.wrap(fit, "_backward", STEP)
    phases.wrap(fit, "save_checkpoint", CHECKPOINT)
    phases.wrap(engine, "evaluate", MEASURE, seconds)
    phases.wrap(engine, "record_scores", RECORD, seconds)
    phases.wrap(engine, "save_model", MODEL, seconds)
    return phases


def make_up_scores(folder: Path) -> None:
    """Give the measurement after each iteration the mask AP of that iteration in AP."""
    evaluate = engine.evaluate

    def measured(data: AnnotatedData, predictor: Any, limit: int) -> Scores:
        scores = evaluate(data, predictor, limit)
        return replace(scores, segm=replace(scores.segm, AP=AP[engine.last_iteration(folder)]))

    engine.evaluate = measured


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of log.csv, without what a clock or the machine says."""
    with path.open(newline="") as file:
        return [{key: value for key, value in row.items() if key not in CLOCK} for row in csv.DictReader(file)]


def compare(whole: Path, parts: Path) -> None:
    """Raise AssertionError unless both runs ended alike, to the bit."""
    for name in WEIGHTS:
        assert (whole / name).read_bytes() == (parts / name).read_bytes(), name
    assert (whole / "model.safetensors").read_bytes() != (whole / "last/model.safetensors").read_bytes()
    assert rows(whole / "log.csv") == rows(parts / "log.csv")
    assert [row["iteration"] for row in rows(whole / "log.csv")] == ["3", "6", "9", "10"]
    assert [row["mask_AP"] for row in rows(whole / "scores.csv")] == [f"{score:g}" for score in AP.values()]
    left = {path.name for path in parts.iterdir()}
    assert left == {path.name for path in whole.iterdir()}, left
    assert not [name for name in left if name.startswith(".")], left
    newest = [next(folder.glob("checkpoint-*")) for folder in (whole, parts)]
    assert newest[0].name == newest[1].name
    for name in ("model.safetensors", "average.safetensors"):
        assert (newest[0] / name).read_bytes() == (newest[1] / name).read_bytes(), name


def kill(root: Path, kills: int, chance: random.Random, slow: float) -> tuple[Counter[str], int]:
    """Kill runs in `root`; returns how many kills met each phase, and the number of runs."""
    config, phases = Config.from_dict(CONFIG), mark_phases(slow)
    data, val = (read_coco(NUCLEI / f"{split}.json", NUCLEI / "images") for split in ("train", "val"))
    val = replace(val, samples=val.samples[:1])

    def train(folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        make_up_scores(folder)
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            engine.train(config, data, folder, resume=True, val=val)

    def make(number: int) -> Callable[[], None]:
        return partial(train, root / f"parts-{number}")

    def check(number: int) -> None:
        compare(root / "whole", root / f"parts-{number}")
        shutil.rmtree(root / f"parts-{number}")

    finish(fork(partial(train, root / "whole")))
    usual = phases.totals()
    return kill_many(make, check, phases, kills, EACH, chance, usual)


def main() -> None:
    """Command line."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=8)
    options.add_argument("--seed", type=int, default=0, help="of the moments")
    options.add_argument("--slow", type=float, default=0.02, help="seconds added to each write and measurement")
    options.add_argument("--out", type=Path, help="JSON file to write")
    words = options.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        met, runs = kill(Path(folder), words.kills, random.Random(words.seed), words.slow)
    command = f"python -m benchmarks.survival.kill_training --kills {words.kills} --seed {words.seed}"
    report(command, met, runs, words.seed, began, words.out)


if __name__ == "__main__":
    main()

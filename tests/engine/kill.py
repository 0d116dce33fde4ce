"""Kill training runs with SIGKILL at random moments, resume them, and compare them with a run that was left alone.

python tests/engine/kill.py --kills 200

Everything is imported once and each attempt is forked off, so nearly all of its time can be killed in. Saving and
measuring are slowed down a little, so that kills meet them too. Prints the number of kills by what they met, as JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from condinst.config import Config
from condinst.data.formats.coco.read import read_coco
from condinst.data.sample import AnnotatedData
from condinst.engine import checkpoint
from condinst.engine import train as engine
from condinst.evaluation.evaluate import Scores

NUCLEI = Path(__file__).parent.parent / "data" / "nuclei"
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
CLOCK = ("images_per_second", "memory_mb")  # columns of log.csv that no two runs share
EACH = 12  # kills of one run, at most


def slow_down(seconds: float) -> None:
    """Make the moments long in which files are written and pictures measured."""
    save, os_replace, record = checkpoint.save, os.replace, engine.record_scores

    def slow_save(*inputs: Any) -> bytes:
        time.sleep(seconds)
        return save(*inputs)

    def slow_replace(source: Any, target: Any) -> None:
        time.sleep(seconds)
        os_replace(source, target)

    def slow_record(scores: Scores, folder: Path, iteration: int) -> dict[str, float]:
        time.sleep(seconds)
        numbers = record(scores, folder, iteration)
        time.sleep(seconds)
        return numbers

    checkpoint.save = slow_save
    os.replace = slow_replace
    engine.record_scores = slow_record


def make_up_scores(folder: Path, seconds: float) -> None:
    """Give the measurement after each iteration the mask AP of that iteration in AP."""
    evaluate = engine.evaluate

    def measured(data: AnnotatedData, predictor: Any, limit: int) -> Scores:
        (folder / "measuring").touch()
        time.sleep(seconds)
        scores = evaluate(data, predictor, limit)
        (folder / "measuring").unlink()
        return replace(scores, segm=replace(scores.segm, AP=AP[engine.last_iteration(folder)]))

    engine.evaluate = measured


def fork(run: Callable[[], object]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        run()
        os._exit(0)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)


def met(folder: Path) -> str:
    """What a kill has met, from what lies in the folder."""
    if any(folder.glob(".checkpoint-*")):
        return "checkpoint"
    if (folder / "measuring").exists():
        return "measuring"
    if any(folder.glob(".*.part")) or any(folder.glob("last/.*.part")):
        return "a file half written"
    return "training" if any(folder.glob("checkpoint-*")) else "before the first checkpoint"


def rows(path: Path) -> list[dict[str, str]]:
    """Of log.csv, without what a clock or the machine says."""
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
    assert left == {path.name for path in whole.iterdir()}
    assert not [name for name in left if name.startswith(".")]


def kill(config: Config, root: Path, kills: int, chance: random.Random, seconds: float) -> Counter[str]:
    """Kill runs in `root` until `kills` have been killed, each EACH times at most; count what the kills met."""
    data, val = (read_coco(NUCLEI / f"{split}.json", NUCLEI / "images") for split in ("train", "val"))
    val = replace(val, samples=val.samples[:1])

    def train(folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        make_up_scores(folder, seconds)
        engine.train(config, data, folder, resume=True, val=val)

    whole, found = root / "whole", Counter[str]()
    started = time.monotonic()
    assert os.waitpid(fork(partial(train, whole)), 0)[1] == 0
    length = time.monotonic() - started
    for number in range(kills):
        parts, end = root / f"parts-{number}", 0
        for _ in range(EACH):
            child = fork(partial(train, parts))
            limit = time.monotonic() + chance.uniform(0, 0.35 * length)
            while not end and time.monotonic() < limit:
                end = os.waitpid(child, os.WNOHANG)[0]
                time.sleep(0.002)
            if end:
                break
            os.kill(child, signal.SIGKILL)
            assert os.waitpid(child, 0)[1] == signal.SIGKILL
            found[met(parts)] += 1
            (parts / "measuring").unlink(missing_ok=True)
            if found.total() >= kills:
                break
        if not end:
            assert os.waitpid(fork(partial(train, parts)), 0)[1] == 0
        compare(whole, parts)
        shutil.rmtree(parts)
        if found.total() >= kills:
            break
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=8)
    options.add_argument("--seed", type=int, default=None, help="of the moments; default: another each time")
    options.add_argument("--slow", type=float, default=0.03, help="seconds added to each write and measurement")
    words = options.parse_args()
    slow_down(words.slow)
    with tempfile.TemporaryDirectory() as folder:
        found = kill(Config.from_dict(CONFIG), Path(folder), words.kills, random.Random(words.seed), 2 * words.slow)
    print(json.dumps({"kills": found.total(), "met": dict(found)}), file=sys.stdout)


if __name__ == "__main__":
    main()

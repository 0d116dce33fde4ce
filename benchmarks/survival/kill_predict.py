"""Kill `condinst predict` at random moments, go on with --resume, and compare with a run that was left alone.

    python -m benchmarks.survival.kill_predict --kills 200

Everything is imported once, and each attempt is a forked process. A kill (SIGKILL) aims at one phase (the network, the
files of a picture, its line in the journal, the renaming of its files, results.json) and meets it at a random moment.
Every file of the results must have the same bytes.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.survival.phases import Phases, finish, fork, kill_many, report
from benchmarks.survival.tiny_model import save_tiny_model
from condinst.cli.main import app
from condinst.cli.results import run as results
from condinst.cli.results.journal import Journal
from condinst.cli.results.staging import Staging
from condinst.inference.pipeline import Pipeline
from condinst.lock import LOCK

SAVE = ("--save", "masks,csv,yolo,labelme")
OPTIONS = ("--device", "cpu", "--size", "64", "--max-detections", "3", "--scale", "1")
EACH = 8  # kills of one folder, at most
NETWORK, FILES, LINE, NAMES, CLOSING = "network", "files", "journal", "renaming", "results.json"


def make_pictures(folder: Path, count: int, size: int = 48, seed: int = 0) -> None:
    """Grey pictures with a few bright discs."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    for number in range(count):
        picture = rng.normal(60, 12, (size, size))
        for cy, cx in rng.integers(0, size, (4, 2)):
            picture[(y - cy) ** 2 + (x - cx) ** 2 < (size / 9) ** 2] += 120
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / f"picture-{number:05d}.png")


def mark_phases(seconds: float) -> Phases:
    """Mark the phases of a prediction, and slow down the short ones by `seconds` each time."""
    phases = Phases((NETWORK, FILES, LINE, NAMES, CLOSING))
    phases.wrap(Pipeline, "__call__", NETWORK)
    phases.wrap(Staging, "add", FILES)
    phases.wrap(Journal, "append", LINE, seconds)
    phases.wrap(Staging, "publish", NAMES, seconds)
    phases.wrap(results, "close_results", CLOSING, seconds)
    return phases


def predict(words: list[str]) -> None:
    """Run the command; its output is dropped."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        app(words)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its name; the lock of a killed run may stay until the next."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != LOCK)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def compare(expected: dict[str, bytes], found: dict[str, bytes]) -> None:
    """Raise AssertionError unless all files are there with the same bytes, and no others."""
    assert found.keys() == expected.keys(), sorted(found.keys() ^ expected.keys())
    assert found == expected, [name for name in found if found[name] != expected[name]]


def kill(words: list[str], folder: Path, kills: int, chance: random.Random, slow: float) -> tuple[Counter[str], int]:
    """Kill runs in `folder`; returns how many kills met each phase, and the number of runs."""
    phases = mark_phases(slow)
    finish(fork(partial(predict, [*words, "--out", str(folder / "whole")])))
    expected = contents(folder / "whole")
    usual = phases.totals()

    def make(number: int) -> Callable[[], None]:
        return partial(predict, [*words, "--out", str(folder / f"out-{number}"), "--resume"])

    def check(number: int) -> None:
        compare(expected, contents(folder / f"out-{number}"))
        shutil.rmtree(folder / f"out-{number}")

    return kill_many(make, check, phases, kills, EACH, chance, usual)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--pictures", type=int, default=6)
    parser.add_argument("--model", default="", help="name or folder of a model; default: a tiny untrained one")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--slow", type=float, default=0.005, help="seconds added to the short phases")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_pictures(folder / "pictures", args.pictures)
        if not args.model:
            finish(fork(partial(save_tiny_model, folder / "model")))  # in a process of its own: it may start threads
        model = args.model or str(folder / "model")
        words = ["predict", str(folder / "pictures"), "--model", model, *OPTIONS, *SAVE]
        met, runs = kill(words, folder, args.kills, random.Random(args.seed), args.slow)
    command = f"python -m benchmarks.survival.kill_predict --kills {args.kills} --seed {args.seed}"
    report(command, met, runs, args.seed, began, args.out)


if __name__ == "__main__":
    main()

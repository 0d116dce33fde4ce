"""Kill `condinst predict` at random moments, go on with --resume, and compare with a run that was left alone.

    python benchmarks/predict/kills.py --kills 100

Each run is a forked process, so that nothing is loaded again. It is killed (SIGKILL) after a random part of the time
that a whole run takes; when one is finished, the next starts in a new folder. Every file must have the same bytes.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from condinst.cli.main import app
from condinst.cli.results.folder import LOCK

SAVE = ("--save", "masks,csv,yolo,labelme")


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


def run_command(words: list[str]) -> int:
    """The exit code of a command in a forked process; its output is dropped."""
    return wait(start(words))[0]


def start(words: list[str]) -> int:
    """The process that runs a command."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            app(words)
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        os._exit(code)


def wait(child: int) -> tuple[int, bool]:
    """Exit code of a process, and whether it was killed."""
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), os.WIFSIGNALED(status)


def survive(words: list[str], folder: Path, kills: int, seed: int, tell: Callable[[str], None] = print) -> int:
    """Kill `kills` runs; returns how many folders were finished and compared. Raises AssertionError at a difference."""
    began = time.monotonic()
    assert run_command([*words, "--out", str(folder / "whole")]) == 0
    seconds, expected = time.monotonic() - began, contents(folder / "whole")
    moments, killed, finished = random.Random(seed), 0, 0
    while killed < kills or not finished:
        out = folder / f"out-{finished}"
        code, dead = -1, True
        while dead:
            child = start([*words, "--out", str(out), "--resume"])
            if killed < kills:
                time.sleep(moments.uniform(0, seconds))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            code, dead = wait(child)
            killed += dead
        assert code == 0, f"exit code {code} after {killed} kills"
        found = contents(out)
        assert found.keys() == expected.keys(), sorted(found.keys() ^ expected.keys())
        assert found == expected, [name for name in found if found[name] != expected[name]]
        finished += 1
        tell(f"{killed} kills, {finished} folders finished, all alike")
    return finished


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its name; the lock of a killed run may stay until the next."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != LOCK)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_pictures(folder / "pictures", args.pictures)
        words = ["predict", str(folder / "pictures"), "--model", args.model, "--device", "cpu", "--size", "64", *SAVE]
        finished = survive(words, folder, args.kills, args.seed, lambda line: print(line, file=sys.stderr))
    print(json.dumps({"kills": args.kills, "folders": finished, "different": 0}))


if __name__ == "__main__":
    main()

"""Kill `condinst predict --workers` at random moments, go on with --resume, and compare with a run that was left alone.

    python -m benchmarks.survival.kill_shards --kills 50

A kill (SIGKILL) meets all processes of the run, or one of its workers alone. In the end each picture must have one
line, with the same bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.survival.kill_predict import make_pictures
from benchmarks.survival.tiny_model import save_tiny_model

OPTIONS = ("--device", "cpu", "--size", "64", "--max-detections", "3", "--workers", "2", "--shard-size", "2")
EACH = 5  # kills of one folder, at most
LATEST = 8.0  # seconds after the start of a run, by which it is killed


def contents(out: Path) -> dict[str, bytes]:
    """The shards by name."""
    return {path.name: path.read_bytes() for path in sorted(out.glob("results-*.jsonl"))}


def start(words: list[str]) -> subprocess.Popen[bytes]:
    """A run in a process group of its own."""
    line = [sys.executable, "-m", "condinst", *words]
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def kill(process: subprocess.Popen[bytes], chance: random.Random) -> str:
    """Kill the run, or one worker of it, at a random moment. Returns what was met."""
    time.sleep(chance.uniform(0.5, LATEST))
    if process.poll() is not None:
        return "too late"
    children = psutil.Process(process.pid).children()
    if children and chance.random() < 0.5:
        chance.choice(children).kill()
        process.wait()
        return "a worker"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return "all processes"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    chance, begun = random.Random(args.seed), time.monotonic()
    met = dict.fromkeys(("all processes", "a worker", "too late"), 0)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_pictures(folder / "pictures", args.pictures)
        save_tiny_model(folder / "model")
        words = ["predict", str(folder / "pictures"), "--model", str(folder / "model"), *OPTIONS, "--out"]
        assert start([*words, str(folder / "whole")]).wait() == 0
        expected, number = contents(folder / "whole"), 0
        while met["all processes"] + met["a worker"] < args.kills:
            number += 1
            out = [*words, str(folder / f"out-{number}"), "--resume"]
            for _ in range(EACH):
                met[kill(start(out), chance)] += 1
            assert start(out).wait() == 0
            found = contents(folder / f"out-{number}")
            assert found == expected, [name for name in expected if found.get(name) != expected[name]]
            print(f"{number} folders, {met}", flush=True)
    facts = {"command": f"python -m benchmarks.survival.kill_shards --kills {args.kills} --seed {args.seed}"}
    facts |= {"met": met, "folders": number, "seconds": round(time.monotonic() - begun)}  # type: ignore[dict-item]
    print(json.dumps(facts))
    if args.out:
        args.out.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()

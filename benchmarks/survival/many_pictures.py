"""`condinst predict` over a folder of many small pictures: pictures a second, and memory from start to end.

    python -m benchmarks.survival.many_pictures --count 20000

Memory must be flat: the program records the resident memory after each tenth of the pictures. A tiny untrained model
finds something on each picture, so that most of the work is the reading, drawing and writing that memory depends on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from benchmarks.survival.tiny_model import save_tiny_model
from condinst.files import replace_file

OPTIONS = ("--size", "64", "--max-detections", "3", "--scale", "1")  # little to compute for each picture


def make_many(folder: Path, count: int, size: int) -> None:
    """Noise with a bright square; every picture is another."""
    rng = np.random.default_rng(0)
    for number in range(count):
        picture = rng.integers(0, 90, (size, size), dtype=np.uint8)
        y, x = rng.integers(0, size * 3 // 4, 2)
        picture[y : y + size // 4, x : x + size // 4] += 130
        Image.fromarray(picture).save(folder / f"{number:06d}.png", compress_level=1)


def measure(pictures: Path, out: Path, options: list[str], count: int) -> dict[str, object]:
    """Run the command and watch its memory and its journal."""
    command = [sys.executable, "-m", "condinst", "predict", str(pictures), "--out", str(out), *options]
    began = time.monotonic()
    first = 0.0
    memory: list[float] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        watched = psutil.Process(process.pid)
        for done, _ in enumerate(process.stdout or (), 1):
            first = first or time.monotonic()
            if done <= count and done % max(1, count // 10) == 0:
                memory.append(round(watched.memory_info().rss / 2**20, 1))
                print(f"{done} pictures, {memory[-1]} MiB", file=sys.stderr, flush=True)
    seconds = time.monotonic() - (first or began)
    return {
        "pictures": count,
        "exit_code": process.returncode,
        "seconds": round(time.monotonic() - began, 1),
        "pictures_per_second": round(count / seconds, 1),
        "resident_mib_after_each_tenth": memory,
        "results_json_mb": round((out / "results.json").stat().st_size / 1e6, 1),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=64, help="pixels")
    parser.add_argument("--model", default="", help="name or folder of a model; default: a tiny untrained one")
    parser.add_argument("--to", type=Path, help="JSON file to write")
    parser.add_argument("options", nargs="*", default=OPTIONS, help="options of predict, after --")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        pictures = Path(place) / "pictures"
        pictures.mkdir()
        make_many(pictures, args.count, args.side)
        model = args.model or str(save_tiny_model(Path(place) / "model"))
        options = ["--model", model, "--device", "cpu", *args.options]
        words = f"python -m benchmarks.survival.many_pictures --count {args.count} --side {args.side}"
        result = {"command": words, **measure(pictures, Path(place) / "out", options, args.count)}
    print(json.dumps(result))
    if args.to is not None:
        replace_file(args.to, (json.dumps(result, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()

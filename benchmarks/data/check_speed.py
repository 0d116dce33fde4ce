"""Time and memory of `condinst data check` on a COCO set that is made up: N annotations on noise pictures.

    python -m benchmarks.data.check_speed --annotations 10000 20000 40000 80000 --each 50 --out check.json

Prints one JSON object for each size: seconds and peak memory of the whole command, in a process of its own. The memory
is that of the largest of its processes, and of all of them together.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

WIDTH, HEIGHT = 640, 480
VERTICES = 24
RADII = (8.0, 30.0)  # pixels


def make_set(folder: Path, annotations: int, each: int, seed: int = 0) -> None:
    """Write annotations.json and images/ to `folder`: `each` objects on a picture, of two classes, one polygon each."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    pictures, records = [], []
    for number in range(1, annotations + 1):
        image = (number - 1) // each + 1
        if image > len(pictures):
            pixels = rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / f"{image}.jpg", quality=60)
            pictures.append({"id": image, "file_name": f"{image}.jpg", "width": WIDTH, "height": HEIGHT})
        records.append(_record(number, image, rng))
    categories = [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}]
    document = {"images": pictures, "categories": categories, "annotations": records}
    (folder / "annotations.json").write_text(json.dumps(document))


def _record(number: int, image: int, rng: np.random.Generator) -> dict[str, Any]:
    angles = np.linspace(0, 2 * np.pi, VERTICES, endpoint=False)
    radii = rng.uniform(*RADII) * rng.uniform(0.9, 1.1, VERTICES)
    centre = rng.uniform((30, 30), (WIDTH - 30, HEIGHT - 30))
    points = centre + np.stack((radii * np.cos(angles), radii * np.sin(angles)), axis=1)
    points = points.clip(0, (WIDTH, HEIGHT)).round(2)
    low, high = points.min(0), points.max(0)
    box = [*low.tolist(), *(high - low).tolist()]
    return {
        "id": number,
        "image_id": image,
        "category_id": 1 + number % 2,
        "iscrowd": 0,
        "segmentation": [points.ravel().tolist()],
        "bbox": box,
    }


def measure(folder: Path) -> dict[str, float]:
    """Seconds of the wall clock and of the processors, and peak memory in MB, of a check of `folder`."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "condinst", "data", "check", str(folder), "--json"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as check:
        together, largest = 0, 0
        while check.poll() is None:
            sizes = _sizes(psutil.Process(check.pid))
            together, largest = max(together, sum(sizes)), max(largest, *sizes, 0)
            time.sleep(0.05)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    return {
        "exit_code": check.returncode,
        "seconds": round(time.perf_counter() - start, 1),
        "processor_seconds": round(spent, 1),
        "peak_mb": round(largest / 2**20),
        "peak_mb_of_all_processes": round(together / 2**20),
    }


def _sizes(process: psutil.Process) -> list[int]:
    """The resident bytes of a process and of those it started; a process that ends meanwhile has none."""
    sizes = [0]
    with suppress(psutil.Error):
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                sizes.append(each.memory_info().rss)
    return sizes


def write_results(file: Path, rows: list[dict[str, float]]) -> None:
    """Write the measurements with their command and machine."""
    from benchmarks.speed.measure import describe_machine  # loads torch

    sizes = " ".join(str(row["annotations"]) for row in rows)
    command = f"python -m benchmarks.data.check_speed --annotations {sizes} --each {rows[0]['each']}"
    document = {
        "benchmark": "check",
        "command": command,
        "machine": describe_machine("cpu").model_dump(),
        "sizes": rows,
    }
    file.write_text(json.dumps(document, indent=1) + "\n")


def main() -> None:
    """Make each set in a temporary folder, check it, print what it took, and write it to --out."""
    parser = argparse.ArgumentParser(description="Time and memory of `condinst data check` on a made-up COCO set.")
    parser.add_argument("--annotations", type=int, nargs="+", default=[10_000])
    parser.add_argument("--each", type=int, default=50, help="annotations on a picture")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    chosen = parser.parse_args()
    rows = []
    for count in chosen.annotations:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "set"
            make_set(folder, count, chosen.each)
            rows.append({"annotations": count, "each": chosen.each, **measure(folder)})
        print(json.dumps(rows[-1]), flush=True)
    if chosen.out is not None:
        write_results(chosen.out, rows)


if __name__ == "__main__":
    main()

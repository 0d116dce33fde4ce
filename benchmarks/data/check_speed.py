"""Time and memory of `condinst data check` on a COCO set that is made up: N annotations on noise pictures.

    python -m benchmarks.data.check_speed --annotations 10000 --each 50

Prints one JSON object: seconds and peak memory of the whole command, in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
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
    """Seconds of the wall clock and of the processor, and peak memory in MB, of a check of `folder`."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "condinst", "data", "check", str(folder), "--json"]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "exit_code": done.returncode,
        "seconds": round(time.perf_counter() - start, 1),
        "processor_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_mb": round(used.ru_maxrss / 1024),
    }


def main() -> None:
    """Make the set in a temporary folder, check it, print what it took."""
    parser = argparse.ArgumentParser(description="Time and memory of `condinst data check` on a made-up COCO set.")
    parser.add_argument("--annotations", type=int, default=10_000)
    parser.add_argument("--each", type=int, default=50, help="annotations on a picture")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "set"
        make_set(folder, chosen.annotations, chosen.each)
        print(json.dumps({"annotations": chosen.annotations, "each": chosen.each, **measure(folder)}))


if __name__ == "__main__":
    main()

"""RTMDet-Ins beside the YOLO-seg of the same size, at 640×640 with 100 instances.

    python -m benchmarks.speed.family --threads 1

Each runs its own prediction call on the same picture. All have random weights: nothing is downloaded. ultralytics is
AGPL-3.0, needed for this benchmark only: pip install -e '.[bench]'
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import cast

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed import rivals, stages
from benchmarks.speed.measure import (
    RESULTS,
    Device,
    KeepPages,
    Measurement,
    Out,
    Rounds,
    Threads,
    Work,
    check_device,
    race_apart,
    run_benchmark,
    save,
    set_threads,
)
from benchmarks.speed.models.busy_rtmdet import busy_rtmdet
from condinst.inference.network import TorchMode
from condinst.predictor import Predictor

ME = "benchmarks.speed.family"  # for the processes that import it
SIZES = {"tiny": "n", "s": "s", "m": "m"}  # ours, and YOLO's
MODES = ("exact", "fast")


def main(
    device: Device = "cpu", rounds: Rounds = 7, threads: Threads = 0, keep_pages: KeepPages = False, out: Out = RESULTS
) -> None:
    """Latency of everyone."""
    check_device(device)
    set_threads(threads)
    measurements: list[Measurement] = []
    for size, letter in SIZES.items():
        what = f"RTMDet-Ins {size}"
        names = [*MODES, f"YOLO11{letter}-seg", f"YOLO26{letter}-seg"]
        contestants = {who: {"size": size, "who": who} for who in names}
        measurements += race_apart(ME, "contestant", what, contestants, rounds, device)
    settings = {
        "instances": str(rivals.DETECTIONS),
        "input": f"{rivals.NUCLEI.name}, {rivals.SIDE}×{rivals.SIDE}; RLE masks of the original from us, masks "
        "as its own predict returns them from YOLO",
        "candidates": f"about {rivals.CANDIDATES} candidates pass each threshold",
    }
    save("family", device, settings, measurements, out, keep_pages)


def contestant(size: str, who: str, device: str) -> Work:
    """Picture in, instances out, by whoever it is."""
    if who not in MODES:
        return rivals.yolo(who, who.lower(), False, device)
    picture = rivals.nuclei_picture()
    model, config = busy_rtmdet(size, picture)
    return partial(_run, Predictor.from_model(model, config, device, cast(TorchMode, who)), picture)


def _run(predictor: Predictor, picture: NDArray[np.uint8]) -> Mapping[str, float]:
    result = predictor(picture)
    stages.check_count(len(result), rivals.DETECTIONS)
    return result.speed


if __name__ == "__main__":
    run_benchmark(main)

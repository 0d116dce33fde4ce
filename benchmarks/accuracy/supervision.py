"""What masks are worth: the same training from masks, from boxes alone, and from a fifth of masks and boxes else.

    python -m benchmarks.accuracy.supervision nuclei datasets/nuclei runs/supervision \
        train.init=weights/mobilenet_v2_imagenet.npz train.iterations=300

Same pictures, same order, same settings; only what is known of each training object differs. Measured on the held-out
masks. Writes OUT/scores.json after each run.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from accelerate.state import AcceleratorState

from benchmarks.accuracy.mask_rcnn import measure
from condinst.data.formats.coco.read import read_coco
from condinst.data.sample import AnnotatedData, Instance
from condinst.engine.train import train
from condinst.predictor import Predictor
from condinst.recipes import load_recipe

SHARES = {"masks": 1.0, "masks 20 %, boxes 80 %": 0.2, "boxes": 0.0}


def main(
    recipe: str,
    data: Path,
    out: Path,
    overrides: Annotated[list[str] | None, typer.Argument()] = None,
    limits: str = "100,500",
) -> None:
    """Train and score with each share of masks."""
    iterations = load_recipe(recipe).with_overrides(overrides or []).train.iterations
    # the pairwise term warms up over the same part of the run as published: 10 000 of 90 000 iterations
    settings = [f"box_supervision.warmup_iterations={iterations // 9}", "box_supervision.bottom_pixels=0"]
    config = load_recipe(recipe).with_overrides([*settings, *(overrides or [])])
    whole = read_coco(data / "train.json", data / "images")
    runs = {}
    for name, share in SHARES.items():
        folder = out / f"masks-{share * 100:.0f}"
        known = keep_masks(whole, share, config.train.seed)
        started = time.perf_counter()
        train(config, known, folder)
        seconds = time.perf_counter() - started
        AcceleratorState._reset_state(reset_partial_state=True)
        predictor = Predictor(folder, conf=None, max_detections=max(int(limit) for limit in limits.split(",")))
        runs[name] = {
            "masks": count_masks(known),
            "boxes": count_masks(whole) - count_masks(known),
            "seconds": round(seconds),
            "scores": measure(predictor, data, limits),
        }
        summary = {
            "recipe": recipe,
            "command": shlex.join(["python", *sys.argv]),
            "images_seen": config.train.iterations * config.train.batch_size,
            "runs": runs,
        }
        (out / "scores.json").write_text(json.dumps(summary, indent=1) + "\n")


def keep_masks(data: AnnotatedData, share: float, seed: int) -> AnnotatedData:
    """`data` with the masks of that share of its objects, chosen one by one at random; the others keep their box."""
    rng = np.random.default_rng(seed)

    def known(instance: Instance) -> Instance:
        return instance if rng.random() < share else replace(instance, shape=None)

    samples = tuple(
        replace(sample, instances=tuple(known(instance) for instance in sample.instances)) for sample in data.samples
    )
    return replace(data, samples=samples)


def count_masks(data: AnnotatedData) -> int:
    """Objects with a mask."""
    return sum(instance.shape is not None for sample in data.samples for instance in sample.instances)


if __name__ == "__main__":
    typer.run(main)

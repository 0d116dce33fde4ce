"""Training pictures as they come out of each way of changing them, with what they teach drawn in; and its time.

    python -m benchmarks.data.augmentation tests/data/facade docs/images/augmentation.jpg

The folder holds train.json and images/. A line per option says what a picture takes, reading included, on one core.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.facts import run_command
from condinst.data.batch import Example
from condinst.data.dataset import TrainingSet
from condinst.data.formats.coco.read import read_coco
from condinst.data.sample import Array8
from condinst.ops.bitmaps.packed_masks import unpack
from condinst.ops.bitmaps.rle import Region, encode
from condinst.ops.drawing.draw import draw_instances
from condinst.ops.drawing.palette import class_colours
from condinst.settings.training import AugmentConfig

SIDE, GAP, ROWS, REPEATS = 256, 8, 2, 24
PLAIN = AugmentConfig(shorter=(SIDE,), longer=2 * SIDE, crop=SIDE)
COLOURED = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.05}
OPTIONS: dict[str, dict[str, object]] = {
    "crop": {},
    "jitter=[0.5,2] and colour": {"jitter": (0.5, 2.0), **COLOURED},
    "mosaic=1": {"mosaic": 1.0},
    "copy_paste=1": {"copy_paste": 1.0},
    "mosaic=1 copy_paste=1": {"mosaic": 1.0, "copy_paste": 1.0},
}


def main(data: Path, out: Path, seed: int = 1) -> None:
    """Write a column for each option, and print the milliseconds of each."""
    torch.set_num_threads(1)
    coco = read_coco(data / "train.json", data / "images")
    columns = []
    for name, options in OPTIONS.items():
        examples = TrainingSet(coco, PLAIN.model_copy(update=options), 1, seed)
        columns.append(np.concatenate([show(examples[(0, row)]) for row in range(ROWS)]))
        start = time.perf_counter()
        for number in range(REPEATS):
            examples[(1, number % len(examples))]
        print(f"{name}: {1000 * (time.perf_counter() - start) / REPEATS:.0f} ms")
    picture = np.concatenate(columns, axis=1)[: -2 * GAP, : -2 * GAP]
    Image.fromarray(picture).save(out, quality=75, optimize=True)


def show(example: Example) -> Array8:
    """The picture with its instances, above it as it is, each in a frame of white."""
    height, width = example.image.shape[:2]
    truth = example.truth
    masks = unpack(truth.mask_pixels, truth.mask_places, torch.arange(len(truth.labels)), (height, width)).numpy()
    rles = [encode(Region(mask, 0, 0), height, width) for mask in masks]
    labels = truth.labels.tolist()
    palette = class_colours(max(labels, default=0) + 1)
    colours = [palette[label] for label in labels]
    drawn = draw_instances(example.image, rles, truth.boxes.numpy(), [""] * len(rles), colours)
    frame = np.full((2 * SIDE + 3 * GAP, SIDE + 2 * GAP, 3), 255, dtype=np.uint8)
    frame[:height, :width] = example.image
    frame[SIDE + GAP : SIDE + GAP + height, :width] = drawn
    return frame


if __name__ == "__main__":
    run_command(main)

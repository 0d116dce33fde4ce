"""Compute the few numbers of a data set that the settings depend on."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from condinst.data.sample import AnnotatedData
from condinst.data.transforms import input_shape
from condinst.settings.model import ModelConfig
from condinst.settings.prediction import InputConfig, SeenConfig
from condinst.structures import STRIDES

Numbers = NDArray[np.float64]


class Statistics(NamedTuple):
    """pictures, instances: how many; crowds are not counted. densest: instances of the fullest picture.

    shorter: pixels, the median shorter side. aspect: longer over shorter side, of 95 pictures in 100 at most. sizes:
    (instances,) √(width · height) of each box, sides: (instances,) its longer side; both over the picture's shorter.
    picture: (instances,) int64, the index of its picture. middles: (instances, 2), x and y of the middle of its box, as
    parts of the picture's width and height.
    """

    pictures: int
    instances: int
    densest: int
    shorter: float
    aspect: float
    sizes: Numbers
    sides: Numbers
    picture: NDArray[np.int64]
    middles: Numbers


def measure_data(data: AnnotatedData) -> Statistics:
    """The statistics of a data set that has at least one picture and one instance."""
    shorter = np.array([min(sample.width, sample.height) for sample in data.samples], dtype=np.float64)
    longer = np.array([max(sample.width, sample.height) for sample in data.samples], dtype=np.float64)
    boxes = np.array(
        [
            [*instance.box, side]
            for sample, side in zip(data.samples, shorter, strict=True)
            for instance in sample.instances
            if not instance.crowd
        ]
    )
    extent = np.array([[sample.width, sample.height] for sample in data.samples], dtype=np.float64)
    extents = np.maximum(boxes[:, 2:4] - boxes[:, :2], 0) / boxes[:, 4:]
    counts = [sum(not instance.crowd for instance in sample.instances) for sample in data.samples]
    picture = np.repeat(np.arange(len(counts)), counts)
    return Statistics(
        pictures=len(data.samples),
        instances=len(boxes),
        densest=max(counts),
        shorter=float(np.median(shorter)),
        aspect=float(np.quantile(longer / shorter, 0.95)),
        sizes=np.sqrt(extents.prod(axis=1)),
        sides=extents.max(axis=1),
        picture=picture,
        middles=(boxes[:, :2] + boxes[:, 2:4]) / 2 / extent[picture],
    )


def measure_seen(data: AnnotatedData, size: InputConfig) -> SeenConfig | None:
    """What the pictures look like at the size of prediction; None if no picture has an object."""
    scales, sides = [], []
    for sample in data.samples:
        height, _ = input_shape(sample.height, sample.width, size)
        scales.append(height / sample.height)
        for x0, y0, x1, y1 in (instance.box for instance in sample.instances if not instance.crowd):
            sides.append(math.sqrt(max(x1 - x0, 0) * max(y1 - y0, 0)) * scales[-1])
    sides = [side for side in sides if side > 0]
    if not sides:
        return None
    least, scale = np.quantile(scales, [0.01, 0.5]).tolist()
    small, middle = np.maximum(np.quantile(sides, [0.1, 0.5]), 0.1).tolist()
    return SeenConfig(
        scale=round(scale, 4), least_scale=round(least, 4), small_side=round(small, 1), middle_side=round(middle, 1)
    )


def share_of_levels(sides: Numbers, settings: ModelConfig) -> list[float]:
    """The share of the objects that each level P3–P7 learns; sides: pixels of the network's input.

    By the distance from an object's middle to its far side, as at most of its positive locations.
    """
    reach = sides / 2
    return [float(((reach > low) & (reach <= high)).mean()) for low, high in settings.size_ranges[: len(STRIDES)]]

"""Assign each object to the pyramid level that learns it: the rule of `training.targets.assign_image` in NumPy.

The rule is written twice on purpose. `condinst data check` loads no torch, which would take seconds and half a
gigabyte in each of its processes. `tests/doctor/test_reach.py` compares the two.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from condinst.structures import STRIDES

Numbers32 = NDArray[np.float32]
NOWHERE = -1  # the level of an object that no location claims


class Claims(NamedTuple):
    """The objects of a picture and their locations.

    level: (M,) int64, the level (0 is P3) with most of an object's locations, or NOWHERE. alone: (M,) bool, whether the
    object would have a location if there were no other object.
    """

    level: NDArray[np.int64]
    alone: NDArray[np.bool_]


class _Pairs(NamedTuple):
    """Pairs of an object and a location near its centroid, (P,) each. x, y: the location in pixels of the input."""

    instance: NDArray[np.int64]
    level: NDArray[np.int64]
    location: NDArray[np.int64]
    x: Numbers32
    y: Numbers32


def find_claims(
    boxes: Numbers32,
    centroids: Numbers32,
    size: tuple[int, int],
    size_ranges: tuple[tuple[float, float], ...],
    center_radius: float,
) -> Claims:
    """Return the level that learns each of M objects.

    boxes: (M, 4) xyxy and centroids: (M, 2), in pixels of the padded input of `size` (height, width). size_ranges: the
    distances in pixels that each level learns. center_radius: in strides.
    """
    strides = STRIDES[: len(size_ranges)]
    pairs = _near(centroids, size, center_radius, strides)
    kept = _fits(pairs, boxes, centroids, size_ranges, center_radius)
    instance, level, location = pairs.instance[kept], pairs.level[kept], pairs.location[kept]
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    # of several objects at a location, the smallest box wins, and of equal boxes the first
    order = np.lexsort((instance, area[instance], location))
    winners = order[np.diff(location[order], prepend=-1) != 0]
    count = len(boxes)
    votes = np.bincount(level[winners] * count + instance[winners], minlength=len(strides) * count)
    votes = votes.reshape(len(strides), count)
    alone = np.zeros(count, dtype=np.bool_)
    alone[instance] = True
    return Claims(np.where(votes.max(axis=0) > 0, votes.argmax(axis=0), NOWHERE), alone)


def _near(centroids: Numbers32, size: tuple[int, int], center_radius: float, level_strides: tuple[int, ...]) -> _Pairs:
    """Return pairs with all locations in the squares around M centroids."""
    strides = np.array(level_strides, dtype=np.int64)
    heights, widths = (-(-side // strides) for side in size)
    begins = np.cumsum(widths * heights) - widths * heights
    cells = [math.ceil(min(2 * center_radius, max(size) / STRIDES[0])) + 2] * 2  # one of the two covers rounding
    stride = strides.astype(np.float32)[:, None]
    low = centroids[:, None] - np.float32(center_radius) * stride  # (M, levels, 2)
    first = np.floor((low - stride // 2) / stride).astype(np.int64).clip(min=0)
    x, y = (first[..., axis, None] + np.arange(number) for axis, number in enumerate(cells))  # (M, levels, cells)
    inside = (y < heights[:, None])[..., None] & (x < widths[:, None])[..., None, :]  # (M, levels, rows, columns)
    instance, level, row, column = np.nonzero(inside)
    x, y = x[instance, level, column], y[instance, level, row]
    place = strides[level]
    return _Pairs(
        instance,
        level,
        begins[level] + y * widths[level] + x,
        (x * place + place // 2).astype(np.float32),
        (y * place + place // 2).astype(np.float32),
    )


def _fits(
    pairs: _Pairs,
    boxes: Numbers32,
    centroids: Numbers32,
    size_ranges: tuple[tuple[float, float], ...],
    center_radius: float,
) -> NDArray[np.bool_]:
    """Return whether each location lies in the centre square of its object and learns distances of its size: (P,)."""
    x0, y0, x1, y1 = boxes[pairs.instance].T
    centre_x, centre_y = centroids[pairs.instance].T
    reach = np.float32(center_radius) * np.array(STRIDES, dtype=np.float32)[pairs.level]
    low, high = np.array(size_ranges, dtype=np.float32).T
    x, y = pairs.x, pairs.y
    largest = np.maximum.reduce([x - x0, y - y0, x1 - x, y1 - y])
    across = (x > np.maximum(centre_x - reach, x0)) & (x < np.minimum(centre_x + reach, x1))
    down = (y > np.maximum(centre_y - reach, y0)) & (y < np.minimum(centre_y + reach, y1))
    fits: NDArray[np.bool_] = across & down & (largest >= low[pairs.level]) & (largest <= high[pairs.level])
    return fits

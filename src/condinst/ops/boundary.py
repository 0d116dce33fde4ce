"""The rim of a mask: its pixels near its own edge, by which Boundary IoU compares outlines (Cheng et al. 2021)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from condinst.ops.rle import Region, Rle, decode_region, encode

SHARE = 0.02  # of the picture's diagonal: how deep a rim is, as published


def rim_depth(height: int, width: int) -> int:
    """Pixels, at least one, for pictures of that size."""
    return max(1, round(SHARE * math.hypot(height, width)))


def rim(mask: Rle, depth: int) -> Rle:
    """The pixels of `mask` at most `depth` from its edge, diagonals counting as one; the picture's border is an edge.

    A mask too thin to have an inside is its own rim.
    """
    bitmap, x, y = decode_region(mask)
    if min(bitmap.shape) <= 2 * depth:
        return mask
    return encode(Region(bitmap & ~shrink(bitmap, depth), x, y), *mask["size"])


def shrink(bitmap: NDArray[np.bool_], depth: int) -> NDArray[np.bool_]:
    """(h, w) without what lies within `depth` pixels of its edge; outside the array nothing is mask."""
    for axis in (0, 1):
        bitmap = _shrink_along(bitmap, depth, axis)
    return bitmap


def _shrink_along(bitmap: NDArray[np.bool_], depth: int, axis: int) -> NDArray[np.bool_]:
    """Kept are the middles of 2·depth + 1 pixels in a row, found by sums that do not take longer for deeper rims."""
    window = 2 * depth + 1
    padding = [(0, 0), (0, 0)]
    padding[axis] = (depth + 1, depth)
    sums = np.pad(bitmap, padding).cumsum(axis=axis, dtype=np.int32)
    ends, starts = [slice(None)] * 2, [slice(None)] * 2
    ends[axis], starts[axis] = slice(window, None), slice(None, -window)
    full: NDArray[np.bool_] = sums[tuple(ends)] - sums[tuple(starts)] == window
    return full

"""The rim of a mask: the pixels near its edge. Boundary IoU compares the rims of two masks (Cheng et al. 2021)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from condinst.ops.bitmaps.rle import Region, Rle, decode_region, encode

SHARE = 0.02  # depth of a rim as a part of the picture's diagonal, as in the paper


def rim_depth(height: int, width: int) -> int:
    """The depth of a rim in pixels, at least 1, for a picture of this size in pixels."""
    return max(1, round(SHARE * math.hypot(height, width)))


def rim(mask: Rle, depth: int) -> Rle:
    """The pixels of `mask` that lie at most `depth` pixels from its edge, where a diagonal step counts as one pixel.

    The border of the picture is an edge. A mask without any deeper pixel is returned unchanged.
    """
    bitmap, x, y = decode_region(mask)
    if min(bitmap.shape) <= 2 * depth:
        return mask
    return encode(Region(bitmap & ~shrink(bitmap, depth), x, y), *mask["size"])


def shrink(bitmap: NDArray[np.bool_], depth: int) -> NDArray[np.bool_]:
    """The mask (h, w) without the pixels within `depth` of its edge. Everything outside the array is background."""
    for axis in (0, 1):
        bitmap = _shrink_along(bitmap, depth, axis)
    return bitmap


def _shrink_along(bitmap: NDArray[np.bool_], depth: int, axis: int) -> NDArray[np.bool_]:
    """Keep the centre of each run of 2·depth + 1 mask pixels along one axis. Running sums make the time independent of
    `depth`.
    """
    window = 2 * depth + 1
    padding = [(0, 0), (0, 0)]
    padding[axis] = (depth + 1, depth)
    sums = np.pad(bitmap, padding).cumsum(axis=axis, dtype=np.int32)
    ends, starts = [slice(None)] * 2, [slice(None)] * 2
    ends[axis], starts[axis] = slice(window, None), slice(None, -window)
    full: NDArray[np.bool_] = sums[tuple(ends)] - sums[tuple(starts)] == window
    return full

"""How alike instances of two frames are, and which of them belong together.

Two rounds as in ByteTrack (Zhang et al., arXiv 2110.06864), with masks in place of boxes alone, and boxes that are
enlarged before they are compared as in C-BIoU (Yang et al., arXiv 2211.14317).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from condinst.errors import UsageError
from condinst.ops.bitmaps.rle import Region, Rle, decode_region

Numbers = NDArray[np.float64]
MASK_SHARE = 0.5  # of the similarity; the other part is of the boxes
MARGIN = 0.3  # of a box's side, by which the box is enlarged on each side


@dataclass
class Shape:
    """An instance of a frame. box: (4,) x0, y0, x1, y1 in pixels. Its mask is decoded when it is needed first."""

    rle: Rle
    box: Numbers
    label: int

    @cached_property
    def region(self) -> Region:
        """The mask."""
        return decode_region(self.rle)

    @cached_property
    def area(self) -> int:
        """Pixels of the mask."""
        return int(np.count_nonzero(self.region.bitmap))


def similarities(earlier: Sequence[Shape], moves: Numbers, now: Sequence[Shape]) -> Numbers:
    """(T, D) in [0, 1]: the mean of mask IoU and of the IoU of enlarged boxes; 0 for different classes.

    moves: (T, 2), the pixels in x and y by which the earlier shapes are moved first.
    """
    found = np.zeros((len(earlier), len(now)))
    if not earlier or not now:
        return found
    boxes = np.array([shape.box for shape in earlier]) + np.tile(moves, 2)
    overlaps = box_ious(enlarge(boxes), enlarge(np.array([shape.box for shape in now])))
    for row, column in np.argwhere(overlaps > 0):
        one, other = earlier[row], now[column]
        if one.label == other.label:
            shared = mask_iou(one, other, np.rint(moves[row]).astype(int))
            found[row, column] = MASK_SHARE * shared + (1 - MASK_SHARE) * overlaps[row, column]
    return found


def enlarge(boxes: Numbers) -> Numbers:
    """Boxes (K, 4) with MARGIN of their side added on each side."""
    margin = MARGIN * (boxes[:, 2:] - boxes[:, :2])
    return np.concatenate([boxes[:, :2] - margin, boxes[:, 2:] + margin], axis=1)


def box_ious(one: Numbers, other: Numbers) -> Numbers:
    """(T, D): the IoU of boxes (T, 4) and (D, 4)."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    sizes = [np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1) for boxes in (one, other)]
    union = sizes[0][:, None] + sizes[1][None, :] - shared
    found: Numbers = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return found


def mask_iou(one: Shape, other: Shape, move: NDArray[np.int64]) -> float:
    """The IoU of two masks after `one` is moved by `move` (x, y) pixels."""
    x, y = one.region.x + int(move[0]), one.region.y + int(move[1])
    height, width = one.region.bitmap.shape
    left, top = max(x, other.region.x), max(y, other.region.y)
    right = min(x + width, other.region.x + other.region.bitmap.shape[1])
    bottom = min(y + height, other.region.y + other.region.bitmap.shape[0])
    if left >= right or top >= bottom:
        return 0.0
    first = one.region.bitmap[top - y : bottom - y, left - x : right - x]
    rows, columns = (
        slice(top - other.region.y, bottom - other.region.y),
        slice(left - other.region.x, right - other.region.x),
    )
    shared = int(np.count_nonzero(first & other.region.bitmap[rows, columns]))
    return shared / max(one.area + other.area - shared, 1)


def pair_up(similar: Numbers, least: float) -> list[tuple[int, int]]:
    """The pairs (row, column) with the largest sum of similarities. Each pair has at least `least`.

    Raises UsageError if SciPy is not installed.
    """
    if not similar.size:
        return []
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError:
        raise UsageError("tracks need SciPy, which is not installed: pip install 'condinst[video]'") from None
    # pairs below the limit count as no pair, so that they take no partner from others
    rows, columns = linear_sum_assignment(np.where(similar >= least, similar, 0.0), maximize=True)
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True) if similar[row, column] >= least]

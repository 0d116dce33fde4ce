"""Square masks stretched over the boxes of their instances, as BlendMask and MEInst draw them."""

from __future__ import annotations

import math
from typing import NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from condinst.ops.bitmaps.rle import Region, Rle, encode

Numbers = NDArray[np.float32]
ROUNDING = 2e-6  # largest difference between two ways to mix probabilities in float32
BAND_PIXELS = 2**20  # pixels that are computed at a time; bounds the memory


def paste(squares: Tensor, boxes: Tensor, original: tuple[int, int], threshold: float) -> list[Rle]:
    """The masks of K instances from probabilities (K, m, m) float32 that fill the boxes (K, 4).

    boxes: xyxy in pixels of the original image, with an area. original: (height, width). A pixel is part of the mask if
    its probability reaches the threshold. The probability at a pixel's centre is bilinear between the centres of the
    square's cells, and falls to 0 within half a cell outside of them.

    `grid_values` defines the probability. Only pixels near a cell that reaches the threshold are computed, one axis
    after the other. `grid_values` then decides on the pixels whose probability equals the threshold but for rounding.
    """
    rles = []
    for square, box in zip(squares.numpy(), boxes.tolist(), strict=True):
        padded = np.pad(square, 1)
        high = padded >= threshold - ROUNDING
        axes = [_Axis.of(box[i], box[i + 2], original[1 - i], np.logical_or.reduce(high, axis=i)) for i in range(2)]
        rles.append(encode(_draw(square, padded, axes[0], axes[1], threshold), *original))
    return rles


def grid_values(square: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The probabilities (n,) at n points. square: (m, m) float32. x, y: (n,) in the box, from −1 to 1 at its sides."""
    points = torch.stack((x, y), dim=-1)
    return F.grid_sample(square[None, None], points[None, None], align_corners=False)[0, 0, 0]


class _Axis(NamedTuple):
    """The pixels along an axis that lie near high cells.

    first: the first of n pixels. places: (n,) where they lie in the box, from −1 to 1. below, above: (n,) int64, the
    two neighbouring cells of the square, which has one more cell at each end. share: (n,) of the cell above.
    """

    first: int
    places: Numbers
    below: NDArray[np.int64]
    above: NDArray[np.int64]
    share: Numbers

    @classmethod
    def of(cls, low: float, high: float, side: int, wanted: NDArray[np.bool_]) -> Self:
        """The axis of a box from `low` to `high` in an image of `side` pixels. wanted: (m + 2,), the high cells."""
        first, end = max(math.floor(low) - 1, 0), min(math.ceil(high) + 1, side)
        cells = len(wanted) - 2
        pixels = np.arange(first, end, dtype=np.float32) + np.float32(0.5)
        places = (pixels - np.float32(low)) / np.float32(high - low) * np.float32(2) - np.float32(1)
        at = ((places + np.float32(1)) * np.float32(cells) - np.float32(1)) / np.float32(2)
        lower = np.floor(at)
        below = np.clip(lower, -1, cells).astype(np.int64) + 1
        above = np.clip(lower + 1, -1, cells).astype(np.int64) + 1
        near = (wanted[below] | wanted[above]).nonzero()[0]
        kept = slice(near[0], near[-1] + 1) if len(near) else slice(0, 0)
        share = (at - lower)[kept]
        return cls(first + kept.start, places[kept], below[kept], above[kept], share)


def _draw(square: Numbers, padded: Numbers, columns: _Axis, rows: _Axis, threshold: float) -> Region:
    """The mask of one instance. padded: the square with a ring of zeros."""
    height, width = len(rows.share), len(columns.share)
    mask = np.empty((height, width), dtype=np.bool_)
    step = max(BAND_PIXELS // max(width, 1), 1)
    low, high = (padded.take(cells, axis=1) for cells in (columns.below, columns.above))
    across = _mix(low, high, columns.share)  # (m + 2, width)
    for first in range(0, height, step):
        band = slice(first, first + step)
        values = _mix(across[rows.below[band]], across[rows.above[band]], rows.share[band, None])
        mask[band] = values >= threshold
        y, x = (np.abs(values - np.float32(threshold)) <= ROUNDING).nonzero()
        if len(y):
            places = (torch.from_numpy(axis[at]) for axis, at in ((columns.places, x), (rows.places, y + first)))
            mask[y + first, x] = (grid_values(torch.from_numpy(square), *places) >= threshold).numpy()
    return Region(mask, columns.first, rows.first)


def _mix(low: Numbers, high: Numbers, share: Numbers) -> Numbers:
    mixed = high - low
    mixed *= share
    mixed += low
    return mixed

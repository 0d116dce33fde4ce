"""Square masks stretched over the boxes of their instances, as BlendMask and MEInst draw them."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from condinst.ops.bitmaps.rle import Region, Rle, encode

BAND_PIXELS = 2**20  # pixels that are computed at a time; bounds the memory


def paste(squares: Tensor, boxes: Tensor, original: tuple[int, int], threshold: float) -> list[Rle]:
    """The masks of K instances from probabilities (K, m, m) float32 that fill the boxes (K, 4).

    boxes: xyxy in pixels of the original image, with an area. original: (height, width). A pixel is part of the mask if
    its probability reaches the threshold. The probability at a pixel's centre is bilinear between the centres of the
    square's cells, and falls to 0 within half a cell outside of them. Pixels that begin more than a pixel outside of
    the box are not part of it.

    Only the pixels around the box are computed, a band of rows at a time.
    """
    height, width = original
    rles = []
    for square, (x0, y0, x1, y1) in zip(squares, boxes.tolist(), strict=True):
        left, right = max(math.floor(x0) - 1, 0), min(math.ceil(x1) + 1, width)
        top, bottom = max(math.floor(y0) - 1, 0), min(math.ceil(y1) + 1, height)
        x, y = _places(left, right, x0, x1), _places(top, bottom, y0, y1)
        rles.append(encode(Region(_draw(square, x, y, threshold), left, top), height, width))
    return rles


def _places(first: int, end: int, low: float, high: float) -> Tensor:
    """Where the centres of the pixels from `first` to `end` lie in a box from `low`, at −1, to `high`, at 1."""
    return (torch.arange(first, end, dtype=torch.float32) + 0.5 - low) / (high - low) * 2 - 1


def _draw(square: Tensor, x: Tensor, y: Tensor, threshold: float) -> NDArray[np.bool_]:
    """The mask (h, w) at the pixels with the places x (w,) and y (h,)."""
    mask = np.empty((len(y), len(x)), dtype=np.bool_)
    step = max(BAND_PIXELS // max(len(x), 1), 1)
    for first in range(0, len(y), step):
        rows = y[first : first + step]
        places = torch.stack((x.expand(len(rows), -1), rows[:, None].expand(-1, len(x))), dim=-1)
        values = F.grid_sample(square[None, None], places[None], align_corners=False)[0, 0]
        mask[first : first + step] = (values >= threshold).numpy()
    return mask

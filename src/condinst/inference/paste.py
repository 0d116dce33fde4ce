"""Square masks stretched over the boxes of their instances, as BlendMask and MEInst draw them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from condinst.ops.bitmaps.rle import Region, Rle, encode


def paste(squares: Tensor, boxes: Tensor, original: tuple[int, int], threshold: float) -> list[Rle]:
    """The masks of K instances from probabilities (K, m, m) float32 that fill the boxes (K, 4).

    boxes: xyxy in pixels of the original image, with an area. original: (height, width). A pixel is part of the mask if
    its probability reaches the threshold. The probability at a pixel's centre is bilinear between the centres of the
    square's cells, and falls to 0 within half a cell outside of them.
    """
    height, width = original
    rles = []
    for square, (x0, y0, x1, y1) in zip(squares, boxes.tolist(), strict=True):
        left, right = max(math.floor(x0) - 1, 0), min(math.ceil(x1) + 1, width)
        top, bottom = max(math.floor(y0) - 1, 0), min(math.ceil(y1) + 1, height)
        x = (torch.arange(left, right, dtype=torch.float32) + 0.5 - x0) / (x1 - x0) * 2 - 1
        y = (torch.arange(top, bottom, dtype=torch.float32) + 0.5 - y0) / (y1 - y0) * 2 - 1
        places = torch.stack((x.expand(len(y), -1), y[:, None].expand(-1, len(x))), dim=-1)
        values = F.grid_sample(square[None, None], places[None], align_corners=False)[0, 0]
        rles.append(encode(Region((values >= threshold).numpy(), left, top), height, width))
    return rles

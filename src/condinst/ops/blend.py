"""The blender of BlendMask: the bases inside a box, weighted by the attention of the instance (arXiv 2001.00309)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align


def pool_bases(bases: Tensor, boxes: Tensor, images: Tensor, side: int, stride: int) -> Tensor:
    """Read the bases (N, B, h, w) inside boxes: (K, B, side, side) float32.

    boxes: (K, 4) xyxy in pixels of the padded input. They may reach outside of it. images: (K,) int64, their images.
    stride: pixels of the input for each pixel of the bases. Each cell is the bilinear value at its centre, and 0 more
    than a pixel outside of the bases.
    """
    regions = torch.cat((images[:, None].float(), boxes.float()), dim=1)
    pooled: Tensor = roi_align(bases.float(), regions, side, 1 / stride, sampling_ratio=1, aligned=True)
    return pooled


def blend(pooled: Tensor, attention: Tensor) -> Tensor:
    """The mask logits (K, R, R) of K instances.

    pooled: (K, B, R, R), see `pool_bases`. attention: (K, B·A·A), base by base and row by row. The attention is
    enlarged first, and the softmax over the bases comes second.
    """
    count, bases, side = pooled.shape[:3]
    cells = round((attention.shape[1] / bases) ** 0.5)
    maps = attention.float().reshape(count, bases, cells, cells)
    if not count:  # F.interpolate refuses an empty batch
        return pooled.sum(dim=1) + maps.sum()
    enlarged = F.interpolate(maps, (side, side), mode="bilinear", align_corners=False)
    return (pooled * enlarged.softmax(dim=1)).sum(dim=1)

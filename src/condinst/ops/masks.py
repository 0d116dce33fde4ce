"""Resizing of mask maps."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def aligned_bilinear(maps: Tensor, factor: int) -> Tensor:
    """Enlarge (N, C, h, w) to (N, C, factor·h, factor·w) so that output pixel f·i + f/2 is input pixel i (spec §2)."""
    if factor == 1:
        return maps
    height, width = maps.shape[-2:]
    padded = F.pad(maps, (0, 1, 0, 1), mode="replicate")
    grown = F.interpolate(padded, (factor * height + 1, factor * width + 1), mode="bilinear", align_corners=True)
    shifted = F.pad(grown, (factor // 2, 0, factor // 2, 0), mode="replicate")
    return shifted[:, :, : factor * height, : factor * width]

"""Mask logits of detected instances, computed for a bounded number of them at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from condinst.model.condinst import filter_layout
from condinst.ops.dynamic_mask_head import dynamic_mask_head
from condinst.settings.model import ModelConfig
from condinst.structures import MASK_FEATURE_STRIDE, Detections, NetworkOutput

NUMBERS_AT_ONCE = 2**24  # logits in one chunk: 64 MiB


def draw_logits(output: NetworkOutput, image: int, found: Detections, model: ModelConfig) -> Iterator[Tensor]:
    """Yield the mask logits of the instances of one image, see `mask_logits`."""
    return mask_logits(output.mask_features[image], found, model)


def mask_logits(mask_features: Tensor, found: Detections, model: ModelConfig) -> Iterator[Tensor]:
    """Yield the mask logits of K instances of one image in chunks (k, h, w) float32.

    mask_features: (F, h, w) of the image. The logits have the stride of the mask features, not mask_out_stride, so the
    caller can enlarge the region of each instance alone.
    """
    layout = filter_layout(model)
    scales = torch.tensor(model.coordinate_scales, device=found.levels.device)
    everyone = torch.arange(len(found.scores), device=found.levels.device)
    pixels = mask_features.shape[1] * mask_features.shape[2]
    for rows in torch.split(everyone, max(1, NUMBERS_AT_ONCE // pixels)):
        yield dynamic_mask_head(
            mask_features[None].float(),
            found.filters[rows].float(),
            torch.zeros_like(rows),
            found.locations[rows],
            scales[found.levels[rows]],
            layout,
            model.coordinates,
            MASK_FEATURE_STRIDE,
            model.geometry,
        )

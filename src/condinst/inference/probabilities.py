"""The dynamic mask head run on chosen instances, a bounded number at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from condinst.config import ModelConfig
from condinst.model.condinst import filter_layout
from condinst.ops.dynamic_mask_head import dynamic_mask_head
from condinst.structures import MASK_FEATURE_STRIDE, Detections

NUMBERS_AT_ONCE = 2**25  # floats alive in one chunk, 128 MiB


def mask_probabilities(mask_features: Tensor, found: Detections, model: ModelConfig) -> Iterator[Tensor]:
    """Mask probabilities of K instances of one image, in chunks: each (k, 8h/s, 8w/s) float32, s = mask_out_stride.

    mask_features: (F, h, w) of that image.
    """
    head, layout = model.mask_head, filter_layout(model)
    scales = torch.tensor(model.coordinate_scales, device=found.levels.device)
    everyone = torch.arange(len(found.scores), device=found.levels.device)
    for rows in torch.split(everyone, _chunk(mask_features, model)):
        logits = dynamic_mask_head(
            mask_features[None].float(),
            found.filters[rows].float(),
            torch.zeros_like(rows),
            found.locations[rows],
            scales[found.levels[rows]],
            layout,
            head.coordinates,
            head.mask_out_stride,
        )
        yield logits.sigmoid()


def _chunk(mask_features: Tensor, model: ModelConfig) -> int:
    """Instances whose maps fit NUMBERS_AT_ONCE: two hidden layers at stride 8, three maps at the output's stride."""
    height, width = mask_features.shape[-2:]
    finer: int = (MASK_FEATURE_STRIDE // model.mask_head.mask_out_stride) ** 2
    return max(1, NUMBERS_AT_ONCE // (height * width * (2 * model.mask_head.width + 3 * finer)))

"""The masks of BlendMask and MEInst: squares that fill the boxes of their instances."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from condinst.model.heads.basis_module import STRIDE
from condinst.ops.blend import blend, pool_bases
from condinst.ops.mask_code import decode_logits
from condinst.settings.model import ModelConfig
from condinst.structures import Detections, NetworkOutput

NUMBERS_AT_ONCE = 2**22  # of one chunk


def draw_blended(output: NetworkOutput, image: int, found: Detections, model: ModelConfig) -> Iterator[Tensor]:
    """Yield the probabilities (k, R, R) float32 that BlendMask draws inside the boxes of `found`.

    The boxes may reach outside of the padded input, where the bases are 0 and the probability is 0.5.
    """
    side, bases = model.blendmask.resolution, output.mask_features[image : image + 1].float()
    everyone = torch.arange(len(found.scores), device=bases.device)
    for rows in torch.split(everyone, max(NUMBERS_AT_ONCE // (bases.shape[1] * side**2), 1)):
        pooled = pool_bases(bases, found.boxes[rows], torch.zeros_like(rows), side, STRIDE)
        yield blend(pooled, found.filters[rows]).sigmoid()


def draw_decoded(output: NetworkOutput, image: int, found: Detections, model: ModelConfig) -> Iterator[Tensor]:
    """Yield the probabilities (k, m, m) float32 that the mask codes of `found` stand for."""
    assert output.code is not None
    side = model.meinst.resolution
    for codes in torch.split(found.filters, max(NUMBERS_AT_ONCE // side**2, 1)):
        yield decode_logits(codes, output.code).sigmoid().reshape(-1, side, side)

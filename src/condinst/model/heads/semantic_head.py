"""The auxiliary semantic head: class logits for each pixel of P3, in training only (arXiv 2102.03026)."""

from __future__ import annotations

import math

from torch import Tensor, nn

from condinst.model.heads.mask_branch import conv_norm_relu


class SemanticHead(nn.Module):
    """P3 (N, channels, H/8, W/8) → class logits (N, C, H/8, W/8).

    prior: the class probability before training. None: all weights begin as PyTorch sets them, as in BlendMask.
    """

    def __init__(self, in_channels: int, channels: int, classes: int, prior: float | None) -> None:
        super().__init__()
        self.tower = nn.Sequential(conv_norm_relu(in_channels, channels), conv_norm_relu(channels, channels))
        self.logits = nn.Conv2d(channels, classes, 1)
        if prior is None:
            for layer in (*self.tower.modules(), self.logits):
                if isinstance(layer, nn.Conv2d):
                    layer.reset_parameters()
            return
        nn.init.kaiming_uniform_(self.logits.weight, a=1)
        nn.init.constant_(self.logits.bias, -math.log((1 - prior) / prior))  # type: ignore[arg-type]

    def forward(self, p3: Tensor) -> Tensor:
        logits: Tensor = self.logits(self.tower(p3))
        return logits

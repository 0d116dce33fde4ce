"""Protonet: the prototypes that all masks of YOLACT are made of (arXiv 1904.02689, §3.1)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Protonet(nn.Module):
    """P3 (N, in_channels, h, w) → prototypes (N, F, 2h, 2w) ≥ 0.

    `convs` 3×3 convolutions of `channels` precede the bilinear enlarging. A 3×3 and a 1×1 convolution follow. A ReLU
    follows each convolution, also the last one.
    """

    def __init__(self, in_channels: int, channels: int, convs: int, prototypes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(convs):
            layers += [nn.Conv2d(channels if index else in_channels, channels, 3, padding=1), nn.ReLU()]
        self.tower = nn.Sequential(*layers)
        self.enlarged = nn.Conv2d(channels if convs else in_channels, channels, 3, padding=1)
        self.features = nn.Conv2d(channels, prototypes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, p3: Tensor) -> Tensor:
        large = F.interpolate(self.tower(p3), scale_factor=2, mode="bilinear", align_corners=False)
        prototypes: Tensor = self.features(self.enlarged(large).relu()).relu()
        return prototypes

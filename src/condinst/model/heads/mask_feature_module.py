"""The mask feature module of RTMDet-Ins: the mask features that all instances share, from P3–P5."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condinst.model.heads.level_towers import make_tower


class MaskFeatureModule(nn.Module):
    """Mask features (N, F, H/8, W/8) from P3, P4 and P5 (arXiv 2212.07784, §3.3).

    P4 and P5 are enlarged to the size of P3. A 1×1 convolution joins the three, and a tower of 3×3 convolutions and a
    1×1 convolution follow.
    """

    def __init__(self, in_channels: int, channels: int, convs: int, features: int) -> None:
        super().__init__()
        self.fusion = nn.Conv2d(3 * in_channels, channels, 1)
        self.tower = make_tower(channels, channels, convs)
        self.features = nn.Conv2d(channels, features, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, pyramid: tuple[Tensor, ...]) -> Tensor:
        """P3, P4, P5 → (N, F, H/8, W/8)."""
        p3, *smaller = pyramid
        enlarged = [F.interpolate(maps, p3.shape[-2:], mode="bilinear", align_corners=False) for maps in smaller]
        features: Tensor = self.features(self.tower(self.fusion(torch.cat([p3, *enlarged], dim=1))))
        return features

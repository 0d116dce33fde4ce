"""The feature pyramid network: P3–P5, P3–P6 or P3–P7 from C3–C5 (paper §3.1)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class FPN(nn.Module):
    """C3, C4, C5 → P3…P7. P6 is made from P5, and P7 from relu(P6), each by a convolution with stride 2.

    levels: number of pyramid levels, from 3 for P3–P5 to 5 for P3–P7.
    """

    def __init__(self, in_channels: tuple[int, ...], channels: int, levels: int = 5) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(count, channels, 1) for count in in_channels)
        self.outputs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels)
        self.levels = levels
        self.p6: nn.Module = nn.Conv2d(channels, channels, 3, stride=2, padding=1) if levels > 3 else nn.Identity()
        self.p7: nn.Module = nn.Conv2d(channels, channels, 3, stride=2, padding=1) if levels > 4 else nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, features: list[Tensor]) -> tuple[Tensor, ...]:
        """C3, C4, C5 at strides 8, 16 and 32 → P3…, each (N, channels, h, w), at strides 8, 16, …"""
        merged = [lateral(feature) for lateral, feature in zip(self.laterals, features, strict=True)]
        for level in (1, 0):
            merged[level] = merged[level] + F.interpolate(merged[level + 1], merged[level].shape[-2:], mode="nearest")
        levels = [output(feature) for output, feature in zip(self.outputs, merged, strict=True)]
        if self.levels > 3:
            levels.append(self.p6(self._widened(levels[-1])))
        if self.levels > 4:
            levels.append(self.p7(self._widened(levels[-1].relu())))
        return tuple(levels)

    def _widened(self, feature: Tensor) -> Tensor:
        """Add a column of zeros to a map with a single column, as the convolution's own padding would.

        Without the column, torch 2.15 leaves part of the weights' gradient uninitialised in bfloat16 on the CPU.
        """
        return F.pad(feature, (0, 1)) if self.training and feature.shape[-1] == 1 else feature

"""The feature pyramid network of the SOLO family: P2–P6 from C2–C5."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class SubsampledFPN(nn.Module):
    """C2, C3, C4, C5 → P2…P6. P6 is every second pixel of P5 in both directions.

    Initial weights: Xavier uniform, biases 0.
    """

    def __init__(self, in_channels: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(count, channels, 1) for count in in_channels)
        self.outputs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, features: list[Tensor]) -> tuple[Tensor, ...]:
        """C2…C5 at strides 4…32 → P2…P6, each (N, channels, h, w), at strides 4…64."""
        merged = [lateral(feature) for lateral, feature in zip(self.laterals, features, strict=True)]
        for level in range(len(merged) - 2, -1, -1):
            merged[level] = merged[level] + F.interpolate(merged[level + 1], merged[level].shape[-2:], mode="nearest")
        levels = [output(feature) for output, feature in zip(self.outputs, merged, strict=True)]
        return *levels, levels[-1][:, :, ::2, ::2]

"""The feature pyramid of YOLACT: P3–P7 from C3–C5 (arXiv 1904.02689, §6.1)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from condinst.model.pyramids.fpn import FPN


class YolactFPN(FPN):
    """C3, C4, C5 → P3…P7, with three differences to `FPN`.

    Bilinear enlarging leads from a level to the next finer one. P6 is made from C5. No ReLU precedes P7.
    """

    def __init__(self, in_channels: tuple[int, ...], channels: int) -> None:
        super().__init__(in_channels, channels)
        self.p6 = nn.Conv2d(in_channels[-1], channels, 3, stride=2, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, features: list[Tensor]) -> tuple[Tensor, ...]:
        """C3, C4, C5 at strides 8, 16 and 32 → P3…P7, each (N, channels, h, w), at strides 8…128."""
        merged = [lateral(feature) for lateral, feature in zip(self.laterals, features, strict=True)]
        for level in (1, 0):
            size = merged[level].shape[-2:]
            merged[level] = merged[level] + F.interpolate(merged[level + 1], size, mode="bilinear", align_corners=False)
        p3, p4, p5 = (output(feature) for output, feature in zip(self.outputs, merged, strict=True))
        p6 = self.p6(self._widened(features[-1]))
        return p3, p4, p5, p6, self.p7(self._widened(p6))

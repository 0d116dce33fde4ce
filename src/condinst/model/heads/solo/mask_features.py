"""The mask features of SOLOv2 that all cells share, from P2–P5 (arXiv 2003.10152, §3.1.2)."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from condinst.model.heads.solo.blocks import ConvNormReLU, double, set_first_weights, with_coordinates
from condinst.settings.model import ModelConfig

LEVELS = 4  # P2–P5


class MaskFeatures(nn.Module):
    """P2…P5 (N, in_channels, h, w) → mask features (N, F, H/4, W/4), none of them negative.

    P3, P4 and P5 take one, two and three steps of a block and an enlarging by 2. P5 has its coordinates beside it. The
    sum of the four passes a 1×1 block.
    """

    def __init__(self, in_channels: int, model: ModelConfig) -> None:
        super().__init__()
        channels, deformable = model.mask_branch.channels, model.solo.deformable == "all"
        self.levels = nn.ModuleList(
            nn.ModuleList(
                ConvNormReLU(inputs, channels, deformable=deformable)
                for inputs in [in_channels + 2 * (level == LEVELS - 1), *[channels] * (max(level, 1) - 1)]
            )
            for level in range(LEVELS)
        )
        self.last = ConvNormReLU(channels, model.mask_branch.features, kernel=1, deformable=deformable)
        set_first_weights(self.levels, model.head.tower_std, model.head.prior, ())
        if isinstance(self.last.conv, nn.Conv2d):
            nn.init.kaiming_normal_(self.last.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, pyramid: tuple[Tensor, ...]) -> Tensor:
        """P2…P5 → (N, F, H/4, W/4). Further levels are ignored."""
        p2, p3, p4, p5 = pyramid[:LEVELS]
        blocks = [cast(nn.ModuleList, level) for level in self.levels]
        total: Tensor = blocks[0][0](p2)
        for steps, level in zip(blocks[1:], (p3, p4, with_coordinates(p5)), strict=True):
            maps = level
            for block in steps:
                maps = double(block(maps))
            total = total + maps
        return cast(Tensor, self.last(total))

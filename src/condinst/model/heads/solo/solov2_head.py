"""The head of SOLOv2 (arXiv 2003.10152, §3.1): class logits and a dynamic filter for each cell, and mask features."""

from __future__ import annotations

from torch import Tensor, nn

from condinst.model.heads.solo.blocks import levels_of, make_tower, resize, set_first_weights, with_coordinates
from condinst.model.heads.solo.mask_features import MaskFeatures
from condinst.model.heads.solo.output import PredictedFilters, SoloOutput
from condinst.settings.model import ModelConfig


class SOLOv2Head(nn.Module):
    """P2…P6, each (N, in_channels, h, w) → `SoloOutput`.

    Both towers see a level at the size of its grid, the tower of the filters beside its coordinates. The coordinates
    are those of the level in its own size, resized with it. All levels share the towers.
    """

    def __init__(self, in_channels: int, model: ModelConfig) -> None:
        super().__init__()
        config, deformable = model.head, model.solo.deformable
        self.grids, self.in_channels = model.solo.grids, in_channels
        self.class_tower = make_tower(in_channels, config.channels, config.convs, deformable)
        self.filter_tower = make_tower(in_channels + 2, config.channels, config.convs, deformable)
        top, filter_top = (config.channels, config.channels) if config.convs else (in_channels, in_channels + 2)
        self.class_logits = nn.Conv2d(top, max(len(model.classes), 1), 3, padding=1)
        self.filters = nn.Conv2d(filter_top, model.mask_branch.features, 3, padding=1)
        set_first_weights(self, config.tower_std, config.prior, (self.class_logits,))
        self.mask_branch = MaskFeatures(in_channels, model)

    def forward(self, pyramid: tuple[Tensor, ...]) -> SoloOutput:
        levels = zip(levels_of(pyramid), self.grids, strict=True)
        seen = [resize(with_coordinates(level), (grid, grid)) for level, grid in levels]
        class_logits = tuple(self.class_logits(self.class_tower(maps[:, : self.in_channels])) for maps in seen)
        filters = tuple(self.filters(self.filter_tower(maps)) for maps in seen)
        return SoloOutput(class_logits, PredictedFilters(self.mask_branch(pyramid), filters))

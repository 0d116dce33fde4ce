"""The head of SOLO (arXiv 1912.04488, §3): a class tower on the grid, and a mask tower with a channel for each cell."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from condinst.model.heads.solo.blocks import double, levels_of, make_tower, resize, set_first_weights, with_coordinates
from condinst.model.heads.solo.output import FixedFilters, SoloOutput
from condinst.settings.model import ModelConfig


class CellFilters(nn.Module):
    """The last mask layer of a level: a 1×1 convolution with a channel for each cell, computed for some cells only."""

    def __init__(self, channels: int, cells: int, std: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(cells, channels, 1, 1))
        self.bias = nn.Parameter(torch.empty(cells))
        nn.init.normal_(self.weight, std=std)


class SOLOHead(nn.Module):
    """P2…P6, each (N, in_channels, h, w) → `SoloOutput`.

    The class tower sees each level at the size of its grid. The mask tower sees the level in its own size beside its
    coordinates, and its maps are enlarged by 2. All levels share the towers.
    """

    def __init__(self, in_channels: int, model: ModelConfig) -> None:
        super().__init__()
        config, deformable = model.head, model.solo.deformable
        top = config.channels if config.convs else in_channels
        self.grids = model.solo.grids
        self.class_tower = make_tower(in_channels, config.channels, config.convs, deformable)
        self.mask_tower = make_tower(in_channels + 2, config.channels, config.convs, deformable)
        self.class_logits = nn.Conv2d(top, max(len(model.classes), 1), 3, padding=1)
        self.masks = nn.ModuleList(
            CellFilters(top if config.convs else top + 2, grid * grid, config.tower_std) for grid in self.grids
        )
        set_first_weights(self, config.tower_std, config.prior, (self.class_logits, *self.masks))

    def forward(self, pyramid: tuple[Tensor, ...]) -> SoloOutput:
        levels = levels_of(pyramid)
        on_grids = [resize(level, (grid, grid)) for level, grid in zip(levels, self.grids, strict=True)]
        maps = tuple(double(self.mask_tower(with_coordinates(level))) for level in levels)
        weights = tuple(layer.weight.flatten(1) for layer in self.masks)  # type: ignore[operator]
        biases: tuple[Tensor, ...] = tuple(layer.bias for layer in self.masks)  # type: ignore[misc]
        class_logits = tuple(self.class_logits(self.class_tower(level)) for level in on_grids)
        return SoloOutput(class_logits, FixedFilters(maps, weights, biases))

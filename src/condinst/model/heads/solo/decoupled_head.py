"""The head of Decoupled SOLO (arXiv 1912.04488, §3.3): masks of the rows and of the columns of the grid."""

from __future__ import annotations

from torch import Tensor, nn

from condinst.model.heads.solo.blocks import double, levels_of, make_tower, resize, set_first_weights, with_coordinates
from condinst.model.heads.solo.output import RowsAndColumns, SoloOutput
from condinst.settings.model import ModelConfig


class DecoupledHead(nn.Module):
    """P2…P6, each (N, in_channels, h, w) → `SoloOutput`.

    As `SOLOHead`, but for each level two 3×3 convolutions predict S maps each, from two mask towers. The tower of the
    columns sees the x coordinate, and that of the rows the y coordinate. In the light form, one tower sees both.
    """

    def __init__(self, in_channels: int, model: ModelConfig) -> None:
        super().__init__()
        config, deformable, shared = model.head, model.solo.deformable, model.solo.one_mask_tower
        extra = 2 if shared else 1
        self.grids = model.solo.grids
        self.class_tower = make_tower(in_channels, config.channels, config.convs, deformable)
        self.mask_tower = make_tower(in_channels + 2, config.channels, config.convs, deformable) if shared else None
        self.column_tower = None if shared else make_tower(in_channels + 1, config.channels, config.convs, deformable)
        self.row_tower = None if shared else make_tower(in_channels + 1, config.channels, config.convs, deformable)
        top = config.channels if config.convs else in_channels
        mask_top = config.channels if config.convs else in_channels + extra
        self.class_logits = nn.Conv2d(top, max(len(model.classes), 1), 3, padding=1)
        self.columns = nn.ModuleList(nn.Conv2d(mask_top, grid, 3, padding=1) for grid in self.grids)
        self.rows = nn.ModuleList(nn.Conv2d(mask_top, grid, 3, padding=1) for grid in self.grids)
        set_first_weights(self, config.tower_std, config.prior, (self.class_logits, *self.columns, *self.rows))

    def forward(self, pyramid: tuple[Tensor, ...]) -> SoloOutput:
        levels = levels_of(pyramid)
        on_grids = [resize(level, (grid, grid)) for level, grid in zip(levels, self.grids, strict=True)]
        pairs = [self._mask_maps(level) for level in levels]
        class_logits = tuple(self.class_logits(self.class_tower(level)) for level in on_grids)
        rows = tuple(layer(maps) for layer, (maps, _) in zip(self.rows, pairs, strict=True))
        columns = tuple(layer(maps) for layer, (_, maps) in zip(self.columns, pairs, strict=True))
        return SoloOutput(class_logits, RowsAndColumns(rows, columns))

    def _mask_maps(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """The maps (N, channels, 2h, 2w) that the masks of the rows and of the columns are made from."""
        if self.mask_tower is not None:
            maps = double(self.mask_tower(with_coordinates(level)))
            return maps, maps
        assert self.row_tower is not None and self.column_tower is not None
        rows = double(self.row_tower(with_coordinates(level, "y")))
        return rows, double(self.column_tower(with_coordinates(level, "x")))

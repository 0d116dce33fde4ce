"""The output of the SOLO family: class logits of the cells, and what the mask of a cell is computed from.

A level has a grid of S×S cells over the padded input. Cell (row i, column j) has the index i·S + j.

The mask of a cell is a filter on maps that all cells share. In SOLO the filter is a row of the last layer, the same for
all pictures. In Decoupled SOLO the mask is the product of two such masks, one for the row of the cell and one for its
column. In SOLOv2 the network predicts the filter of each cell, and the maps are the same for all levels.

Shapes: N images, C classes, E channels of the shared maps, h×w their size, P chosen cells.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from condinst.model.heads.solo.blocks import resize

Size = tuple[int, int]


class FixedFilters(NamedTuple):
    """The masks of SOLO. maps: (N, E, h, w) of each level. weights: (S², E) and biases: (S²,) of each level."""

    maps: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]

    @property
    def size(self) -> Size:
        """(height, width) of the masks of the first level, which have stride 4."""
        return self.maps[0].shape[-2], self.maps[0].shape[-1]

    def probabilities(self, level: int, image: int, cells: Tensor, size: Size | None = None) -> Tensor:
        """The masks of the cells (P,) of a level in an image: (P, h, w) float32 in [0, 1], or (P, *size)."""
        weights, biases = self.weights[level][cells].float(), self.biases[level][cells].float()
        logits = _apply(weights, self.maps[level][image]) + biases[:, None, None]
        return _resized(logits.sigmoid(), size)


class RowsAndColumns(NamedTuple):
    """The masks of Decoupled SOLO. rows, columns: logits (N, S, h, w) of each level."""

    rows: tuple[Tensor, ...]
    columns: tuple[Tensor, ...]

    @property
    def size(self) -> Size:
        """(height, width) of the masks of the first level, which have stride 4."""
        return self.rows[0].shape[-2], self.rows[0].shape[-1]

    def probabilities(self, level: int, image: int, cells: Tensor, size: Size | None = None) -> Tensor:
        """The masks of the cells (P,) of a level in an image: (P, h, w) float32 in [0, 1], or (P, *size)."""
        rows, columns = self.rows[level][image], self.columns[level][image]
        above, beside = rows[cells // len(rows)], columns[cells % len(rows)]
        return _resized(beside.float().sigmoid(), size) * _resized(above.float().sigmoid(), size)


class PredictedFilters(NamedTuple):
    """The masks of SOLOv2. maps: (N, E, h, w). filters: (N, E, S, S) of each level."""

    maps: Tensor
    filters: tuple[Tensor, ...]

    @property
    def size(self) -> Size:
        """(height, width) of the masks of the first level, which have stride 4."""
        return self.maps.shape[-2], self.maps.shape[-1]

    def probabilities(self, level: int, image: int, cells: Tensor, size: Size | None = None) -> Tensor:
        """The masks of the cells (P,) of a level in an image: (P, h, w) float32 in [0, 1], or (P, *size)."""
        filters = self.filters[level][image].flatten(1).T[cells].float()
        return _resized(_apply(filters, self.maps[image]).sigmoid(), size)


CellMasks = FixedFilters | RowsAndColumns | PredictedFilters


class SoloOutput(NamedTuple):
    """The result of one forward pass. class_logits: (N, C, S, S) of each level. masks: those of all cells."""

    class_logits: tuple[Tensor, ...]
    masks: CellMasks


def _apply(filters: Tensor, maps: Tensor) -> Tensor:
    """A 1×1 convolution with filters (P, E) on maps (E, h, w): (P, h, w) float32."""
    with torch.autocast(maps.device.type, enabled=False):
        return (filters @ maps.float().flatten(1)).reshape(-1, *maps.shape[1:])


def _resized(maps: Tensor, size: Size | None) -> Tensor:
    """Maps (P, h, w), bilinear at `size`."""
    return maps if size is None or size == maps.shape[1:] else resize(maps[:, None], size)[:, 0]

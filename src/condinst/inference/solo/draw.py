"""The masks of cells as probabilities at stride 4, for a bounded number of cells at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from condinst.model.heads.solo.output import SoloOutput
from condinst.settings.model import ModelConfig
from condinst.structures import Detections

NUMBERS_AT_ONCE = 2**23  # probabilities in one chunk: 32 MiB


def draw_cells(output: SoloOutput, image: int, found: Detections, model: ModelConfig) -> Iterator[Tensor]:
    """Yield the masks of the instances of one image in chunks (k, H/4, W/4) float32, in the order of `found`."""
    cells = found.filters[:, 0].long()
    return cell_probabilities(output, image, found.levels, cells)


def cell_probabilities(output: SoloOutput, image: int, levels: Tensor, cells: Tensor) -> Iterator[Tensor]:
    """Yield the masks of K cells of one image in chunks (k, H/4, W/4) float32.

    levels, cells: (K,) int64. A cell's mask is resized as a probability, and before the product of Decoupled SOLO.
    """
    size = output.masks.size
    for rows in torch.split(
        torch.arange(len(cells), device=cells.device), max(1, NUMBERS_AT_ONCE // (size[0] * size[1]))
    ):
        drawn = torch.zeros(len(rows), *size, device=cells.device)
        for level in torch.unique(levels[rows]).tolist():
            mine = levels[rows] == level
            drawn[mine] = output.masks.probabilities(level, image, cells[rows][mine], size)
        yield drawn

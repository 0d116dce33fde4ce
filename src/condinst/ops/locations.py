"""Where the head looks: the grid of locations of a level."""

from __future__ import annotations

import torch
from torch import Tensor

from condinst.structures import STRIDES


def level_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """(h, w) of each level's map, P3 first, for a padded input."""
    return [(-(-height // stride), -(-width // stride)) for stride in STRIDES]


def level_locations(height: int, width: int, stride: int, device: torch.device | None = None) -> Tensor:
    """Centres of a level's cells, row by row: (height·width, 2) float32 (x, y) in pixels, i·s + s//2."""
    ys = torch.arange(height, device=device, dtype=torch.float32) * stride + stride // 2
    xs = torch.arange(width, device=device, dtype=torch.float32) * stride + stride // 2
    y, x = torch.meshgrid(ys, xs, indexing="ij")
    return torch.stack((x, y), dim=-1).reshape(-1, 2)


def flatten_level(level: Tensor) -> Tensor:
    """(N, C, h, w) → (N, h·w, C), in the order of `level_locations`."""
    return level.flatten(2).transpose(1, 2)


def flatten_levels(levels: tuple[Tensor, ...]) -> Tensor:
    """Maps of all levels (N, C, h, w) → (N, L, C), P3 first."""
    return torch.cat([flatten_level(level) for level in levels], dim=1)

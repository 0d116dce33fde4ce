"""The grid of locations on each pyramid level (paper §3.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from condinst.structures import STRIDES


def level_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """(h, w) of the maps P3…P7 for a padded input of `height` × `width` pixels."""
    return [(-(-height // stride), -(-width // stride)) for stride in STRIDES]


def level_locations(height: int, width: int, stride: int, device: torch.device | None = None) -> Tensor:
    """The locations of a map of `height` × `width` cells: (height·width, 2) float32 (x, y), row by row.

    They are the centres of the cells in pixels of the padded input: i·stride + stride//2.
    """
    ys = torch.arange(height, device=device, dtype=torch.float32) * stride + stride // 2
    xs = torch.arange(width, device=device, dtype=torch.float32) * stride + stride // 2
    y, x = torch.meshgrid(ys, xs, indexing="ij")
    return torch.stack((x, y), dim=-1).reshape(-1, 2)


def flatten_level(level: Tensor) -> Tensor:
    """Reshape a map (N, C, h, w) to (N, h·w, C), in the order of `level_locations`."""
    return level.flatten(2).transpose(1, 2)


def flatten_levels(levels: tuple[Tensor, ...]) -> Tensor:
    """Join the maps (N, C, h, w) of all levels to (N, L, C), P3 first."""
    return torch.cat([flatten_level(level) for level in levels], dim=1)

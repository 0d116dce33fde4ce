"""The grid of locations on each pyramid level (paper §3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from condinst.structures import CONDINST, Geometry


def level_sizes(height: int, width: int, strides: tuple[int, ...] = CONDINST.strides) -> list[tuple[int, int]]:
    """(h, w) of the map of each pyramid level for a padded input of `height` × `width` pixels."""
    return [(-(-height // stride), -(-width // stride)) for stride in strides]


def level_locations(
    height: int, width: int, stride: int, device: torch.device | None = None, offset: float = CONDINST.offset
) -> Tensor:
    """The locations of a map of `height` × `width` cells: (height·width, 2) float32 (x, y), row by row.

    They lie at (i + offset)·stride in pixels of the padded input. By default they are the centres of the cells.
    """
    ys = torch.arange(height, device=device, dtype=torch.float32) * stride + stride * offset
    xs = torch.arange(width, device=device, dtype=torch.float32) * stride + stride * offset
    y, x = torch.meshgrid(ys, xs, indexing="ij")
    return torch.stack((x, y), dim=-1).reshape(-1, 2)


def all_locations(maps: tuple[Tensor, ...], geometry: Geometry) -> Tensor:
    """The locations (L, 2) of the maps (N, C, h, w) of all levels, P3 first, in pixels of the padded input."""
    levels = zip(maps, geometry.strides, strict=True)
    return torch.cat([level_locations(m.shape[-2], m.shape[-1], s, m.device, geometry.offset) for m, s in levels])


def of_each_location(maps: tuple[Tensor, ...], numbers: Sequence[float]) -> Tensor:
    """The number of its level for each location: (L,) float32. maps: (N, C, h, w) of each level, P3 first."""
    levels = zip(maps, numbers, strict=True)
    return torch.cat([torch.full((m.shape[-2] * m.shape[-1],), float(number), device=m.device) for m, number in levels])


def flatten_level(level: Tensor) -> Tensor:
    """Reshape a map (N, C, h, w) to (N, h·w, C), in the order of `level_locations`."""
    return level.flatten(2).transpose(1, 2)


def flatten_levels(levels: tuple[Tensor, ...]) -> Tensor:
    """Join the maps (N, C, h, w) of all levels to (N, L, C), P3 first."""
    return torch.cat([flatten_level(level) for level in levels], dim=1)

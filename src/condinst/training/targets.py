"""Which location is positive for which instance, and what it should say (spec §3).

L locations over all levels, P3 first; M instances of one image; N images.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_area

from condinst.ops.boxes import centerness, distances_to_boxes
from condinst.ops.locations import level_locations
from condinst.structures import MASK_FEATURE_STRIDE, STRIDES, Norms, Targets, Truth


class Grid(NamedTuple):
    """All locations of a padded input. points: (L, 2) pixels. strides: (L,). low, high: (L,) the level's size range."""

    points: Tensor
    strides: Tensor
    low: Tensor
    high: Tensor


def make_grid(
    level_sizes: list[tuple[int, int]], size_ranges: tuple[tuple[float, float], ...], device: torch.device
) -> Grid:
    """Locations of maps of the given (height, width), P3 first."""
    points = [level_locations(*size, stride, device) for size, stride in zip(level_sizes, STRIDES, strict=True)]
    counts = torch.tensor([len(level) for level in points], device=device)
    per_level = torch.tensor([(s, *r) for s, r in zip(STRIDES, size_ranges, strict=True)], device=device)
    strides, low, high = per_level.repeat_interleave(counts, dim=0).unbind(dim=1)
    return Grid(torch.cat(points), strides, low, high)


def assign(
    truths: tuple[Truth, ...],
    level_sizes: list[tuple[int, int]],
    size_ranges: tuple[tuple[float, float], ...],
    classes: int,
    center_radius: float,
    mask_size: tuple[int, int],
) -> Targets:
    """Targets of a batch. level_sizes: (h, w) of each level's map. mask_size: (H/s, W/s) of the predicted masks."""
    grid = make_grid(level_sizes, size_ranges, truths[0].boxes.device)
    chosen = [assign_image(grid, truth.boxes, truth.centroids, center_radius) for truth in truths]
    labels, distances, indices = [], [], []
    first = 0
    for truth, index in zip(truths, chosen, strict=True):
        positive = index >= 0
        labels.append(torch.where(positive, _pick(truth.labels, index), classes))
        sides = _sides(grid.points, _pick(truth.boxes, index)) / grid.strides[:, None]
        distances.append(torch.where(positive[:, None], sides, 0))
        indices.append(torch.where(positive, index + first, -1))
        first += len(truth.labels)
    distances_in_strides = torch.stack(distances)
    instance_index = torch.stack(indices)
    return Targets(
        labels=torch.stack(labels),
        distances_in_strides=distances_in_strides,
        centerness=torch.where(instance_index >= 0, centerness(distances_in_strides.clamp(min=1e-6)), 0),
        instance_index=instance_index,
        masks=torch.cat([_pad(truth.masks, mask_size, 0) for truth in truths]),
        semantic=torch.stack([_pad(truth.semantic, _semantic_size(level_sizes), -1) for truth in truths]),
        has_mask=torch.cat([truth.has_mask for truth in truths]),
    )


def assign_image(grid: Grid, boxes: Tensor, centroids: Tensor, center_radius: float) -> Tensor:
    """The instance of each location, (L,) int64, −1 for background.

    Positive: strictly inside a square of half side center_radius·stride around the centroid, clipped to the box, with
    the largest distance (pixels) inside the level's size range, ends included. The smallest box wins.
    """
    if not len(boxes):
        return torch.full((len(grid.points),), -1, dtype=torch.int64, device=grid.points.device)
    reach = (center_radius * grid.strides)[:, None, None]
    low = torch.maximum(centroids - reach, boxes[:, :2])  # (L, M, 2)
    high = torch.minimum(centroids + reach, boxes[:, 2:])
    points = grid.points[:, None, :]
    inside = ((points > low) & (points < high)).all(dim=-1)
    largest = distances_to_boxes(grid.points, boxes).amax(dim=-1)
    in_range = (largest >= grid.low[:, None]) & (largest <= grid.high[:, None])
    areas = torch.where(inside & in_range, box_area(boxes), torch.inf)
    smallest, index = areas.min(dim=1)
    return torch.where(smallest.isfinite(), index, -1)


def measure_norms(targets: Targets) -> Norms:
    """This process's divisors; the engine takes their mean over processes before the objective sees them."""
    return Norms((targets.instance_index >= 0).sum().float(), targets.centerness.sum())


def _pick(values: Tensor, index: Tensor) -> Tensor:
    """values[index]; any row where the index is −1, and zeros where there is nothing to pick from."""
    if not len(values):
        return values.new_zeros((len(index), *values.shape[1:]))
    return values[index.clamp(min=0)]


def _sides(points: Tensor, boxes: Tensor) -> Tensor:
    return torch.cat((points - boxes[:, :2], boxes[:, 2:] - points), dim=1)


def _pad(maps: Tensor, size: tuple[int, int], value: int) -> Tensor:
    height, width = maps.shape[-2:]
    return F.pad(maps, (0, size[1] - width, 0, size[0] - height), value=value)


def _semantic_size(level_sizes: list[tuple[int, int]]) -> tuple[int, int]:
    factor = STRIDES[0] // MASK_FEATURE_STRIDE
    return level_sizes[0][0] * factor, level_sizes[0][1] * factor

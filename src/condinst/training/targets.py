"""Training targets: which location is positive for which instance, and what it should predict (paper §3.2).

Shapes: N images, M instances of one image, L locations over all levels, P3 first.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_area

from condinst.ops.boxes import centerness, distances_to_boxes
from condinst.ops.locations import level_locations
from condinst.structures import MASK_FEATURE_STRIDE, STRIDES, Norms, Targets, Truth

PAIRS_AT_ONCE = 2**20  # pairs of an instance and a location that are tested together; bounds the memory


class Grid(NamedTuple):
    """All locations of a padded input.

    points: (L, 2), the (x, y) of each location in pixels of the padded input.
    strides: (L,), the stride of its level in pixels.
    low, high: (L,), the size range of its level in pixels.
    sizes: (levels, 2) int64, the (width, height) of each level's map.
    """

    points: Tensor
    strides: Tensor
    low: Tensor
    high: Tensor
    sizes: Tensor


def make_grid(
    level_sizes: list[tuple[int, int]], size_ranges: tuple[tuple[float, float], ...], device: torch.device
) -> Grid:
    """The grid for maps of the given sizes (height, width), P3 first. size_ranges: in pixels, one for each level."""
    level_strides = STRIDES[: len(level_sizes)]
    points = [level_locations(*size, stride, device) for size, stride in zip(level_sizes, level_strides, strict=True)]
    counts = torch.tensor([len(level) for level in points], device=device)
    per_level = torch.tensor([(s, *r) for s, r in zip(level_strides, size_ranges, strict=True)], device=device)
    strides, low, high = per_level.repeat_interleave(counts, dim=0).unbind(dim=1)
    sizes = torch.tensor([(width, height) for height, width in level_sizes], device=device)
    return Grid(torch.cat(points), strides, low, high, sizes)


def assign(
    truths: tuple[Truth, ...],
    level_sizes: list[tuple[int, int]],
    size_ranges: tuple[tuple[float, float], ...],
    classes: int,
    center_radius: float,
) -> Targets:
    """The training targets of a batch (paper §3.2).

    truths: the annotation of each image. level_sizes: (h, w) of each level's map. size_ranges: in pixels, one for each
    level. classes: C. center_radius: in strides.
    """
    grid = make_grid(level_sizes, size_ranges, truths[0].boxes.device)
    chosen = [assign_image(grid, truth.boxes, truth.centroids, center_radius) for truth in truths]
    size = (level_sizes[0][0] * STRIDES[0], level_sizes[0][1] * STRIDES[0])
    return collect(truths, chosen, grid.points, grid.strides, classes, size)


def collect(
    truths: tuple[Truth, ...],
    chosen: list[Tensor],
    points: Tensor,
    strides: Tensor,
    classes: int,
    size: tuple[int, int],
    quality: Tensor | None = None,
) -> Targets:
    """The training targets of a batch with known positives.

    truths: the annotation of each image. chosen: for each image, the instance of each location (L,) int64, −1 for
    background. points: (L, 2) and strides: (L,), in pixels of the padded input. classes: C. size: (height, width) that
    the levels cover, in pixels. quality: (N, L), 0 for background, or None for the centerness.
    """
    labels, distances, indices = [], [], []
    first = 0
    for truth, index in zip(truths, chosen, strict=True):
        positive = index >= 0
        labels.append(torch.where(positive, _pick(truth.labels, index), classes))
        sides = distances_to_boxes(points, _pick(truth.boxes, index)) / strides[:, None]
        distances.append(torch.where(positive[:, None], sides, 0))
        indices.append(torch.where(positive, index + first, -1))
        first += len(truth.labels)
    distances_in_strides = torch.stack(distances)
    instance_index = torch.stack(indices)
    if quality is None:
        quality = torch.where(instance_index >= 0, centerness(distances_in_strides.clamp(min=1e-6)), 0)
    semantic_size = (size[0] // MASK_FEATURE_STRIDE, size[1] // MASK_FEATURE_STRIDE)
    return Targets(
        labels=torch.stack(labels),
        distances_in_strides=distances_in_strides,
        quality=quality,
        instance_index=instance_index,
        mask_pixels=torch.cat([truth.mask_pixels for truth in truths]),
        mask_places=torch.cat([truth.mask_places for truth in truths]),
        semantic=torch.stack([_pad(truth.semantic, semantic_size, -1) for truth in truths]),
        has_mask=torch.cat([truth.has_mask for truth in truths]),
    )


def assign_image(grid: Grid, boxes: Tensor, centroids: Tensor, center_radius: float) -> Tensor:
    """The instance of each location: (L,) int64, −1 for background.

    boxes: (M, 4) and centroids: (M, 2), in pixels of the padded input. center_radius: in strides.

    A location is positive for an instance under two conditions. It lies strictly inside the square with half side
    center_radius·stride around the centroid, clipped to the box. And its largest distance to a side of the box lies
    inside the size range of the level, ends included. Of several instances the one with the smallest box wins, and of
    equal boxes the first one.
    """
    count = len(grid.points)
    smallest = boxes.new_full((count,), torch.inf)
    chosen = torch.full((count,), -1, dtype=torch.int64, device=boxes.device)
    cells = _cells_of_a_square(grid, center_radius)
    at_once = max(PAIRS_AT_ONCE // (len(grid.sizes) * cells[0] * cells[1]), 1)
    for first in range(0, len(boxes), at_once):
        part = slice(first, first + at_once)
        instance, location = _near(grid, centroids[part], center_radius, cells)
        box, centroid = boxes[part][instance], centroids[part][instance]
        kept = _claims(grid, location, box, centroid, center_radius).nonzero()[:, 0]
        instance, location, area = instance[kept] + first, location[kept], box_area(box[kept])
        least = smallest.scatter_reduce(0, location, area, "amin")
        wins = (area == least[location]) & (area < smallest[location])
        chosen.scatter_reduce_(0, location[wins], instance[wins], "amin", include_self=False)
        smallest = least
    return chosen


def _cells_of_a_square(grid: Grid, center_radius: float) -> tuple[int, int]:
    """The largest number of columns and of rows that the square around a centroid can touch on any level."""
    width, height = grid.sizes.amax(0).tolist()
    reach = math.ceil(min(2 * center_radius, max(width, height))) + 2  # one of the two covers rounding errors
    return min(reach, width), min(reach, height)


def _near(grid: Grid, centroids: Tensor, center_radius: float, cells: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Candidate pairs (instance, location), two (P,) int64, with all locations in the squares of M centroids."""
    widths, heights = grid.sizes.unbind(1)
    begins = (widths * heights).cumsum(0) - widths * heights
    stride = grid.strides[begins, None]
    low = centroids[:, None] - center_radius * stride  # (M, 5, 2)
    first = ((low - stride // 2) / stride).floor().long().clamp(min=0)
    x, y = (
        first[..., axis, None] + torch.arange(number, device=centroids.device) for axis, number in enumerate(cells)
    )  # (M, 5, columns), (M, 5, rows)
    inside = (y < heights[:, None])[..., None] & (x < widths[:, None])[..., None, :]  # (M, 5, rows, columns)
    location = (begins[:, None] + y * widths[:, None])[..., None] + x[..., None, :]
    instance = torch.arange(len(centroids), device=centroids.device)[:, None, None, None].expand_as(inside)
    return instance[inside], location[inside]


def _claims(grid: Grid, location: Tensor, boxes: Tensor, centroids: Tensor, center_radius: float) -> Tensor:
    """Return whether each of P locations is positive for the instance in the same row: (P,) bool."""
    points = grid.points[location]
    reach = (center_radius * grid.strides[location])[:, None]
    low = torch.maximum(centroids - reach, boxes[:, :2])
    high = torch.minimum(centroids + reach, boxes[:, 2:])
    largest = distances_to_boxes(points, boxes).amax(dim=1)
    in_range = (largest >= grid.low[location]) & (largest <= grid.high[location])
    return ((points > low) & (points < high)).all(dim=1) & in_range


def measure_norms(targets: Targets) -> Norms:
    """The divisors of this process. The engine averages them over all processes before it calls `objective`."""
    return Norms((targets.instance_index >= 0).sum().float(), targets.quality.sum())


def _pick(values: Tensor, index: Tensor) -> Tensor:
    """`values[index]`. The row for index −1 is arbitrary. Without any values, all rows are zero."""
    if not len(values):
        return values.new_zeros((len(index), *values.shape[1:]))
    return values[index.clamp(min=0)]


def _pad(maps: Tensor, size: tuple[int, int], value: int) -> Tensor:
    height, width = maps.shape[-2:]
    return F.pad(maps, (0, size[1] - width, 0, size[0] - height), value=value)

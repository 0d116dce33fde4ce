"""Box arithmetic that torchvision lacks. Boxes are xyxy; distances are (left, top, right, bottom)."""

from __future__ import annotations

import torch
from torch import Tensor


def boxes_from_distances(locations: Tensor, distances: Tensor) -> Tensor:
    """Boxes (…, 4) from locations (…, 2) and distances (…, 4). All three have the same unit."""
    return torch.cat((locations - distances[..., :2], locations + distances[..., 2:]), dim=-1)


def distances_to_boxes(locations: Tensor, boxes: Tensor) -> Tensor:
    """Distances (…, 4) from locations (…, 2) to the sides of boxes (…, 4).

    The inputs are broadcast. A distance is negative if the location lies outside that side of the box.
    """
    return torch.cat((locations - boxes[..., :2], boxes[..., 2:] - locations), dim=-1)


def intersection_and_union(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """The areas (…,) of intersection and union of boxes (…, 4). The inputs are broadcast."""
    low, high = torch.maximum(one[..., :2], other[..., :2]), torch.minimum(one[..., 2:], other[..., 2:])
    intersection = _product((high - low).clamp(min=0))
    areas = _product(one[..., 2:] - one[..., :2]) + _product(other[..., 2:] - other[..., :2])
    return intersection, areas - intersection


def _product(sides: Tensor) -> Tensor:
    return sides[..., 0] * sides[..., 1]


def centerness(distances: Tensor) -> Tensor:
    """Centerness (…,) in [0, 1] of distances (…, 4) > 0: √(min(l,r)/max(l,r) · min(t,b)/max(t,b)).

    See FCOS, arXiv 1904.01355.
    """
    horizontal, vertical = distances[..., 0::2], distances[..., 1::2]
    product = (horizontal.amin(-1) / horizontal.amax(-1)) * (vertical.amin(-1) / vertical.amax(-1))
    return product.sqrt()


def scale_boxes(boxes: Tensor, size: tuple[int, int], original_size: tuple[int, int]) -> Tensor:
    """Scale boxes (K, 4) from an image of `size` (h, w) to one of `original_size` (h, w)."""
    return boxes * boxes.new_tensor([original_size[1] / size[1], original_size[0] / size[0]]).repeat(2)


def clip_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Clip boxes (K, 4) to an image of `size` (h, w)."""
    return torch.minimum(boxes.clamp(min=0), boxes.new_tensor([size[1], size[0]]).repeat(2))


def box_cells(boxes: Tensor, size: tuple[int, int], cells: tuple[int, int]) -> Tensor:
    """The cells of a map that boxes show, with a margin of one cell: (K, h, w) bool (YOLACT, arXiv 1904.02689, §3.2).

    boxes: (K, 4) in pixels of an image of `size` (height, width). cells: (h, w) of a map of this image. A cell counts
    if its index lies between the sides of the box in cells, which are real numbers.
    """
    columns, rows = (
        _between(boxes[:, axis] / pixels * count, boxes[:, axis + 2] / pixels * count, count)
        for axis, (pixels, count) in enumerate(zip(reversed(size), reversed(cells), strict=True))
    )
    return rows[:, :, None] & columns[:, None, :]


def _between(low: Tensor, high: Tensor, count: int) -> Tensor:
    index = torch.arange(count, device=low.device, dtype=low.dtype)
    return (index >= (low - 1)[:, None]) & (index < (high + 1)[:, None])

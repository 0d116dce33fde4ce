"""A 3×3 convolution at chosen locations only."""

from __future__ import annotations

import torch
from torch import Tensor

from condinst.ops.locations import flatten_level

STEPS = tuple((down, right) for down in (-1, 0, 1) for right in (-1, 0, 1))  # the order of a kernel's elements


def read_at(maps: tuple[Tensor, ...], images: Tensor, levels: Tensor, cells: Tensor) -> Tensor:
    """The values of maps at K places: (…, C).

    maps: one (N, C, h, w) for each level. images, levels, cells: (…,) int64, the image, the level and the index of the
    cell in its level, row by row.
    """
    values = None
    for level, map_ in enumerate(maps):
        here = levels == level
        found = flatten_level(map_)[images, cells * here]
        values = found if values is None else torch.where(here[..., None], found, values)
    assert values is not None
    return values


def convolve_at(
    maps: tuple[Tensor, ...], weight: Tensor, bias: Tensor, images: Tensor, levels: Tensor, cells: Tensor
) -> Tensor:
    """A 3×3 convolution with zero padding of 1 at K places: (…, out), in the dtype of `weight`.

    maps, images, levels, cells: as in `read_at`. weight: (9·C, out), the kernel's elements row by row, C values for
    each. bias: (out,).
    """
    patches = None
    down, right = torch.tensor(STEPS, device=cells.device).unbind(dim=1)
    for level, map_ in enumerate(maps):
        here = levels == level
        height, width = map_.shape[2:]
        row = cells * here // width
        column = cells * here - row * width  # ONNX's exporter has no remainder by a size that is not fixed
        y, x = row[..., None] + down, column[..., None] + right  # (…, 9)
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        values = flatten_level(map_)[images[..., None], (y * width + x) * inside]  # (…, 9, C)
        found = torch.where(inside[..., None], values, 0).flatten(-2)
        patches = found if patches is None else torch.where(here[..., None], found, patches)
    assert patches is not None
    return patches.to(weight.dtype) @ weight + bias

"""Convolutions at chosen locations only."""

from __future__ import annotations

import torch
import torch.nn.functional as F
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


def run_at(
    maps: tuple[Tensor, ...],
    stacks: tuple[tuple[tuple[Tensor, Tensor], ...], ...],
    images: Tensor,
    levels: Tensor,
    cells: Tensor,
) -> Tensor:
    """A stack of convolutions for each level, at K places: (K, out), in the dtype of the weights.

    A SiLU follows each convolution but the last, and each pads its input with zeros. maps, images, levels, cells: as
    in `read_at`, with K places on one axis. stacks: for each level the weights (out, in, k, k), k odd, and biases
    (out,).
    """
    weight, bias = stacks[0][-1]
    answer = weight.new_zeros(len(cells), len(bias))
    for level, (map_, layers) in enumerate(zip(maps, stacks, strict=True)):
        rows = (levels == level).nonzero()[:, 0]
        if len(rows):
            reach = sum(kernel.shape[-1] // 2 for kernel, _ in layers)
            patches, inside = _patches(map_, images[rows], cells[rows], reach)
            answer[rows] = _run_stack(patches.to(weight.dtype), inside, layers)
    return answer


def _patches(map_: Tensor, images: Tensor, cells: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """The surroundings of K cells, (K, C, 2·reach + 1, 2·reach + 1), and where they are inside the map (K, 1, …)."""
    height, width = map_.shape[2:]
    steps = torch.arange(-reach, reach + 1, device=cells.device)
    y = (cells // width)[:, None] + steps
    x = (cells % width)[:, None] + steps
    inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
    places = y.clamp(0, height - 1)[:, :, None] * width + x.clamp(0, width - 1)[:, None, :]
    values = flatten_level(map_)[images[:, None, None], places].permute(0, 3, 1, 2)
    return values, inside[:, None]


def _run_stack(patches: Tensor, inside: Tensor, layers: tuple[tuple[Tensor, Tensor], ...]) -> Tensor:
    """The stack at the centres of K patches: (K, out). Cells outside the map are zero before each convolution."""
    for number, (weight, bias) in enumerate(layers):
        patches = F.conv2d(torch.where(inside, patches, 0), weight, bias)
        lost = weight.shape[-1] // 2
        inside = inside[:, :, lost : inside.shape[2] - lost, lost : inside.shape[3] - lost]
        if number < len(layers) - 1:
            patches = F.silu(patches)
    return patches[:, :, 0, 0]

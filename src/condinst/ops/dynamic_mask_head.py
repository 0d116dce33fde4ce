"""The dynamic mask head: K instances' own small networks over the shared mask features (paper §3, spec §2).

It owns no parameter, so it is a function. P = h·w mask-feature pixels of one image.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from condinst.ops.masks import aligned_bilinear
from condinst.structures import MASK_FEATURE_STRIDE, FilterLayout

Coordinates = Literal["relative", "absolute", "none", "only"]


class Layer(NamedTuple):
    """One 1×1 convolution of every instance. weight: (K, out, in). bias: (K, out, 1)."""

    weight: Tensor
    bias: Tensor


def split_filters(filters: Tensor, layout: FilterLayout) -> list[Layer]:
    """Controller output (K, count) → layers: all weights first, each (out, in) row-major, then all biases."""
    sizes = layout.sizes
    parts = torch.split(filters, [*layout.weight_counts, *sizes[1:]], dim=1)
    return [
        Layer(weight.reshape(-1, outputs, inputs), bias[:, :, None])
        for weight, bias, inputs, outputs in zip(parts, parts[layout.depth :], sizes, sizes[1:], strict=False)
    ]


def dynamic_mask_head(
    mask_features: Tensor,
    filters: Tensor,
    image_index: Tensor,
    locations: Tensor,
    scales: Tensor,
    layout: FilterLayout,
    coordinates: Coordinates,
    mask_out_stride: int,
) -> Tensor:
    """Mask logits of K instances: (K, 8h/s, 8w/s) at s = mask_out_stride, in the dtype of the filters.

    mask_features: (N, F, h, w). filters: (K, count). image_index: (K,) int64, each instance's image. locations: (K, 2)
    (x, y) in pixels of the padded input. scales: (K,) pixels, the coordinate scale of each instance's level.
    Relative coordinates are (location − pixel) / scale; absolute ones run from −1 to 1 over the padded input. "only" is
    relative where F = 0: there is nothing else to read.

    The first layer is affine in the coordinates, so all instances of an image share one dense product with one
    (features, x, y, 1) map and no instance copies the features.
    """
    height, width = mask_features.shape[-2:]
    first, *rest = split_filters(filters, layout)
    weight, bias = first.weight, first.bias
    grid = mask_grid(height, width, mask_features)
    if coordinates in {"relative", "only"}:
        weight, bias = _relative_as_affine(weight, bias, locations.to(weight.dtype), scales.to(weight.dtype))
    elif coordinates == "absolute":
        grid = grid / (grid.new_tensor([[width], [height]]) * MASK_FEATURE_STRIDE / 2) - 1
    hidden = _shared_product(weight, bias, mask_features, grid if coordinates != "none" else grid[:0], image_index)
    for layer in rest:
        hidden = torch.baddbmm(layer.bias, layer.weight, hidden.relu())
    logits = hidden.reshape(-1, 1, height, width)
    return aligned_bilinear(logits, MASK_FEATURE_STRIDE // mask_out_stride)[:, 0]


def mask_grid(height: int, width: int, like: Tensor) -> Tensor:
    """Pixel positions (x, y) of the mask features' centres, 8u + 4: (2, P) with the dtype and device of `like`."""
    half = MASK_FEATURE_STRIDE // 2
    ys = torch.arange(height, device=like.device, dtype=like.dtype) * MASK_FEATURE_STRIDE + half
    xs = torch.arange(width, device=like.device, dtype=like.dtype) * MASK_FEATURE_STRIDE + half
    return torch.stack((xs.repeat(height), ys.repeat_interleave(width)))


def _relative_as_affine(weight: Tensor, bias: Tensor, locations: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
    """w·(location − pixel)/scale + b  =  (−w/scale)·pixel + (b + w·location/scale)."""
    slopes = weight[:, :, :2] / scales[:, None, None]
    shift = (slopes * locations[:, None, :]).sum(dim=2, keepdim=True)
    return torch.cat((-slopes, weight[:, :, 2:]), dim=2), bias + shift


def _shared_product(weight: Tensor, bias: Tensor, features: Tensor, grid: Tensor, image_index: Tensor) -> Tensor:
    """First layer of all instances, (K, out, P), one dense product an image; coordinates come before the features."""
    images, _, height, width = features.shape
    outputs = weight.shape[1]
    inputs = torch.cat((grid.expand(images, -1, -1), features.flatten(2)), dim=1)
    if images == 1:
        return (weight.flatten(0, 1) @ inputs[0]).reshape(-1, outputs, height * width) + bias
    order = image_index.argsort(stable=True)
    counts = torch.bincount(image_index, minlength=images).tolist()
    products = [
        (rows.flatten(0, 1) @ pixels).reshape(-1, outputs, height * width)
        for rows, pixels in zip(torch.split(weight[order], counts), inputs, strict=True)
    ]
    return torch.cat(products)[order.argsort()] + bias

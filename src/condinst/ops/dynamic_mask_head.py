"""The dynamic mask head: a small network for each of K instances, applied to the shared mask features (paper §3.1).

The controller predicts its weights. The head has no parameters of its own, so it is a function. P = h·w is the number
of mask-feature pixels of one image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from importlib.util import find_spec
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from condinst.ops.masks import being_traced, enlarge
from condinst.structures import CONDINST, MASK_FEATURE_STRIDE, FilterLayout, Geometry

Coordinates = Literal["relative", "absolute", "none", "only"]

# Values between two layers that are computed together. On a CPU they must fit the cache. On other devices each call is
# expensive, so there are more of them.
CACHED_NUMBERS, DEVICE_NUMBERS = 2**19, 2**26
FEWEST_PIXELS = 128
FUSED_TYPES = {torch.float32, torch.float16, torch.bfloat16}


class Layer(NamedTuple):
    """One 1×1 convolution for each instance. weight: (K, out, in). bias: (K, out, 1)."""

    weight: Tensor
    bias: Tensor


class Instances(NamedTuple):
    """The inputs of the head for K instances.

    filters: (K, count). locations: (K, 2) and scales: (K,), in pixels of the padded input.
    """

    filters: Tensor
    locations: Tensor
    scales: Tensor


class Kind(NamedTuple):
    """What the head reads and how its filters split. offset: see `condinst.structures.Geometry`."""

    layout: FilterLayout
    coordinates: Coordinates
    offset: float


def split_filters(filters: Tensor, layout: FilterLayout) -> list[Layer]:
    """Split the controller's output (K, count) into layers: all weights come first, each (out, in), then all biases."""
    sizes = layout.sizes
    parts = torch.split(filters, [*layout.weight_counts, *sizes[1:]], dim=1)
    return [
        Layer(weight.reshape(-1, outputs, inputs), bias[:, :, None])
        for weight, bias, inputs, outputs in zip(parts, parts[layout.depth :], sizes, sizes[1:], strict=False)
    ]


def complete(filters: Tensor, layout: FilterLayout) -> tuple[Tensor, FilterLayout]:
    """Apply the tanh of bounded filters (…, count) and append the biases that the controller does not predict."""
    if layout.bounded:
        filters = filters.tanh()
    if not layout.biases:
        filters = torch.cat((filters, filters.new_zeros(*filters.shape[:-1], layout.bias_count)), dim=-1)
    return filters, replace(layout, biases=True, bounded=False)


def dynamic_mask_head(
    mask_features: Tensor,
    filters: Tensor,
    image_index: Tensor,
    locations: Tensor,
    scales: Tensor,
    layout: FilterLayout,
    coordinates: Coordinates,
    mask_out_stride: int,
    geometry: Geometry = CONDINST,
) -> Tensor:
    """Mask logits of K instances (paper §3.1): (K, 8h/s, 8w/s) with s = mask_out_stride, in the dtype of `filters`.

    mask_features: (N, F, h, w).
    filters: (K, count), the controller's output.
    image_index: (K,) int64, the image of each instance.
    locations: (K, 2), the (x, y) of each instance in pixels of the padded input.
    scales: (K,), the coordinate scale of each instance's level in pixels.
    layout: how `filters` splits into layers.
    coordinates: "relative" gives (location − pixel) / scale, "absolute" gives values from −1 to 1 over the padded
        input, "none" gives no coordinates. "only" is "relative" without mask features, F = 0.
    mask_out_stride: 8, 4 or 2.
    geometry: where the pixels of the mask features lie, and how the logits are enlarged.

    float16 and bfloat16 inputs are computed in float32, with and without autocast: they cannot hold positions of a
    thousand pixels exactly.
    """
    filters, layout = complete(filters, layout)
    factor = MASK_FEATURE_STRIDE // mask_out_stride
    aligned = factor == 1 or geometry.enlarging == "aligned"
    if aligned and _can_be_fused((mask_features, filters, locations, scales), layout):
        from condinst.ops import triton_mask_head  # imported here because Triton is optional

        if triton_mask_head.can_build(filters.device):
            return triton_mask_head.fused_mask_head(
                mask_features,
                filters,
                image_index,
                locations,
                scales,
                layout,
                coordinates,
                mask_out_stride,
                geometry.offset,
            )
    precise = torch.promote_types(filters.dtype, torch.float32)
    instances = Instances(filters.to(precise), locations.to(precise), scales.to(precise))
    kind = Kind(layout, coordinates, geometry.offset)
    logits = _plain_logits(mask_features.to(precise), instances, image_index, kind)
    maps = logits.reshape(-1, 1, *mask_features.shape[2:])
    return enlarge(maps, factor, geometry.enlarging)[:, 0].to(filters.dtype)


def dynamic_mask_head_of_each(
    mask_features: Tensor,
    filters: Tensor,
    locations: Tensor,
    scales: Tensor,
    layout: FilterLayout,
    coordinates: Coordinates,
    geometry: Geometry = CONDINST,
) -> Tensor:
    """Mask logits of D instances in each of N images, at the stride of the mask features: (N, D, h, w) float32.

    The function computes what `dynamic_mask_head` computes, with few operations of fixed shapes, as exported programs
    need. mask_features: (N, F, h, w). filters: (N, D, count). locations: (N, D, 2). scales: (N, D). See
    `dynamic_mask_head` for the rest.
    """
    filters, layout = complete(filters, layout)
    images, each = filters.shape[:2]
    instances = Instances(filters.flatten(0, 1).float(), locations.flatten(0, 1), scales.flatten())
    kind = Kind(layout, coordinates, geometry.offset)
    logits = _logits(mask_features.float(), instances, kind, _run_layers)
    return logits.reshape(images, each, *mask_features.shape[2:])


def mask_grid(height: int, width: int, like: Tensor, offset: float = CONDINST.offset) -> Tensor:
    """The places (x, y) of the mask-feature pixels: (2, P) in pixels of the padded input, 8·(u + offset) for column u.

    The result has the dtype and the device of `like`.
    """
    shift = MASK_FEATURE_STRIDE * offset
    ys = torch.arange(height, device=like.device, dtype=like.dtype) * MASK_FEATURE_STRIDE + shift
    xs = torch.arange(width, device=like.device, dtype=like.dtype) * MASK_FEATURE_STRIDE + shift
    # expand instead of repeat_interleave: OpenVINO gives empty tensors for the latter if the width is not fixed
    return torch.stack((xs.expand(height, width), ys[:, None].expand(height, width))).flatten(1)


def _plain_logits(features: Tensor, instances: Instances, image_index: Tensor, kind: Kind) -> Tensor:
    """Logits (K, P) of the instances of all images. features: (N, F, h, w)."""
    if len(features) == 1:
        return _image_logits(features[0], instances, kind)
    order = image_index.argsort(stable=True)
    counts = torch.bincount(image_index, minlength=len(features)).tolist()
    of_images = zip(*(torch.split(numbers[order], counts) for numbers in instances), strict=True)
    drawn = [_image_logits(image, Instances(*own), kind) for image, own in zip(features, of_images, strict=True)]
    return torch.cat(drawn)[order.argsort()]


def _image_logits(features: Tensor, instances: Instances, kind: Kind) -> Tensor:
    """Logits (K, P) of the instances of one image. features: (F, h, w)."""
    return _logits(features, instances, kind, _run_layers if being_traced() else _Tiles.apply)


def _logits(features: Tensor, instances: Instances, kind: Kind, run: Callable[..., Tensor]) -> Tensor:
    """Logits (K, P) of instances. features: (F, h, w) of one image, or (N, F, h, w) with K / N instances in each image.

    The first layer is affine in the coordinates. So the first layers of all instances are one matrix product with a
    shared map of x, y, features and 1, and no instance copies the features. run: `_run_layers` or a faster form of it.
    """
    height, width = features.shape[-2:]
    first, *rest = split_filters(instances.filters, kind.layout)
    weight, bias = first.weight, first.bias
    grid = mask_grid(height, width, features, kind.offset)
    if kind.coordinates in {"relative", "only"}:
        weight, bias = _relative_as_affine(weight, bias, instances.locations, instances.scales)
    elif kind.coordinates == "absolute":
        grid = grid / (grid.new_tensor([[width], [height]]) * MASK_FEATURE_STRIDE / 2) - 1
    else:
        grid = grid[:0]
    ones = grid.new_ones(1, height * width)
    several = features.shape[:-3]
    inputs = torch.cat(
        (grid.expand(*several, *grid.shape), features.flatten(-2), ones.expand(*several, *ones.shape)), dim=-2
    )
    return run(inputs, torch.cat((weight, bias), dim=2), *(part for layer in rest for part in layer))


def _relative_as_affine(weight: Tensor, bias: Tensor, locations: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
    """The first layer at a pixel: w·(location − pixel)/scale + b = (−w/scale)·pixel + (b + w·location/scale)."""
    slopes = weight[:, :, :2] / scales[:, None, None]
    shift = (slopes * locations[:, None, :]).sum(dim=2, keepdim=True)
    return torch.cat((-slopes, weight[:, :, 2:]), dim=2), bias + shift


def _run_layers(inputs: Tensor, first: Tensor, *rest: Tensor) -> Tensor:
    """Apply the first layer (K, out, in) to inputs (in, P), then each further weight and bias after a ReLU: (K, P).

    inputs may also be (N, in, P), one for each group of K / N instances.
    """
    outs, ins = first.shape[1:]
    with _no_autocast(inputs.device.type):
        hidden = (first.reshape(*inputs.shape[:-2], -1, ins) @ inputs).reshape(-1, outs, inputs.shape[-1])
        for weight, bias in zip(rest[::2], rest[1::2], strict=True):
            hidden = torch.baddbmm(bias, weight, hidden.relu_())
    return hidden[:, 0]


def _no_autocast(kind: str) -> AbstractContextManager[object]:
    """Switch autocast off. Does nothing if it is off, because exporters would record the switch in their programs."""
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


class _Tiles(torch.autograd.Function):
    """`_run_layers` on some pixels at a time.

    The backward pass computes the values between the layers again instead of keeping them. In the cache this takes no
    longer than reading them, and it saves 2·K·width·P values.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, inputs: Tensor, *layers: Tensor) -> Tensor:
        ctx.save_for_backward(inputs, *layers)
        logits = inputs.new_empty(len(layers[0]), inputs.shape[1])
        for here in _tiles(inputs, layers[0]):
            logits[:, here] = _run_layers(inputs[:, here], *layers)
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        needed: tuple[bool, ...] = ctx.needs_input_grad  # type: ignore[attr-defined]
        inputs, *layers = (saved.detach() for saved in ctx.saved_tensors)  # type: ignore[attr-defined]
        for layer, wanted in zip(layers, needed[1:], strict=True):
            layer.requires_grad_(wanted)
        inputs_grad = torch.empty_like(inputs) if needed[0] else None
        for here in _tiles(inputs, layers[0]):
            tile = inputs[:, here].detach().requires_grad_(needed[0])
            with torch.enable_grad(), _no_autocast(inputs.device.type):
                torch.autograd.backward(_run_layers(tile, *layers), grad[:, here])
            if inputs_grad is not None:
                inputs_grad[:, here] = tile.grad
        return inputs_grad, *(layer.grad for layer in layers)


def _tiles(inputs: Tensor, first: Tensor) -> Iterator[slice]:
    """Ranges of the P pixels of inputs (in, P) that are computed together. first: the first layer (K, out, in)."""
    numbers = CACHED_NUMBERS if inputs.device.type == "cpu" else DEVICE_NUMBERS
    count = max(FEWEST_PIXELS, numbers // max(1, first.shape[0] * first.shape[1]) // 64 * 64)
    for start in range(0, inputs.shape[1], count):
        yield slice(start, start + count)


def _can_be_fused(inputs: tuple[Tensor, ...], layout: FilterLayout) -> bool:
    """Return whether the CUDA kernel can compute this. Its registers limit depth and width; it has no backward pass."""
    filters = inputs[1]
    return (
        filters.is_cuda
        and not being_traced()
        and not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs))
        and all(tensor.dtype in FUSED_TYPES for tensor in inputs)
        and layout.depth <= 4
        and max(layout.width, layout.features) <= 16
        and find_spec("triton") is not None
    )

"""The dynamic mask head as one CUDA kernel. It reads the mask features and the filters and writes only the logits.

Each program of the kernel computes one tile of one instance. The values between the layers stay in registers. To
enlarge a tile, threads exchange values with their neighbours. Coordinates and sums are float32 for every input dtype.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, assignment"
# Triton's kernel language looks like Python, but it has no types and no `(*tuple, value)`.

from __future__ import annotations

import functools
import warnings

import torch
import triton
import triton.language as tl
from torch import Tensor

from condinst.structures import CONDINST, MASK_FEATURE_STRIDE, FilterLayout

# Size of a tile in mask-feature pixels. With more pixels, a thread uses each loaded weight more often, but the values
# between two layers must fit its registers. So a thread has eight pixels up to width 8, and two above.
ROWS, COLUMNS = 16, 32
KINDS = {"none": 0, "relative": 1, "only": 1, "absolute": 2}


@functools.cache
def can_build(device: torch.device) -> bool:
    """Return whether Triton can build kernels for this GPU, and warn if not. Triton needs a C compiler."""
    try:
        recent = torch.cuda.get_device_capability(device) >= (7, 5)
        triton.runtime.driver.active.get_current_target()
    except Exception as error:
        warnings.warn(
            f"mask head: Triton cannot build its kernel ({error}); condinst uses slower PyTorch operations",
            stacklevel=3,
        )
        return False
    return recent


def fused_mask_head(
    mask_features: Tensor,
    filters: Tensor,
    image_index: Tensor,
    locations: Tensor,
    scales: Tensor,
    layout: FilterLayout,
    coordinates: str,
    mask_out_stride: int,
    offset: float = CONDINST.offset,
) -> Tensor:
    """`dynamic_mask_head` without gradients. Arguments and results are the same, except for rounding.

    All tensors are on one CUDA device; float tensors are float32, float16 or bfloat16. mask_out_stride: 8, 4 or 2.
    """
    instances, factor = len(filters), MASK_FEATURE_STRIDE // mask_out_stride
    height, width = mask_features.shape[-2:]
    logits = filters.new_empty(instances, factor * height, factor * width)
    if not instances:
        return logits
    shared = int(factor > 1)
    rows, columns = triton.cdiv(height + shared, ROWS - shared), triton.cdiv(width + shared, COLUMNS - shared)
    with torch.cuda.device_of(filters):
        _draw_tile[(instances, rows * columns)](
            mask_features.contiguous(),
            filters.contiguous(),
            image_index.contiguous(),
            locations.contiguous(),
            scales.contiguous(),
            logits,
            height,
            width,
            columns,
            STRIDE=MASK_FEATURE_STRIDE,
            SHIFT=int(MASK_FEATURE_STRIDE * offset),
            KIND=KINDS[coordinates],
            FEATURES=layout.features,
            WIDTH=layout.width,
            DEPTH=layout.depth,
            WEIGHTS=sum(layout.weight_counts),
            COUNT=layout.count,
            FACTOR=factor,
            SHARED=shared,
            ROWS=ROWS,
            COLUMNS=COLUMNS,
            num_warps=2 if layout.width <= 8 else 8,
            enable_fp_fusion=True,
        )
    return logits


@triton.jit
def _draw_tile(
    features,
    filters,
    image_index,
    locations,
    scales,
    logits,
    height,
    width,
    tiles_across,
    STRIDE: tl.constexpr,
    SHIFT: tl.constexpr,
    KIND: tl.constexpr,
    FEATURES: tl.constexpr,
    WIDTH: tl.constexpr,
    DEPTH: tl.constexpr,
    WEIGHTS: tl.constexpr,
    COUNT: tl.constexpr,
    FACTOR: tl.constexpr,
    SHARED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Compute one instance (first axis of the grid) on one tile (second axis).

    To enlarge, a tile interpolates between its own pixels. So adjacent tiles share a row and a column, and the first
    row and column of the first tiles lie outside the map.
    """
    instance = tl.program_id(0).to(tl.int64)
    top = tl.program_id(1) // tiles_across * (ROWS - SHARED) - SHARED
    left = tl.program_id(1) % tiles_across * (COLUMNS - SHARED) - SHARED
    # outside the map the outermost pixels are repeated
    v = tl.minimum(tl.maximum(top + tl.arange(0, ROWS), 0), height - 1)[:, None]
    u = tl.minimum(tl.maximum(left + tl.arange(0, COLUMNS), 0), width - 1)[None, :]
    values = _coordinates(locations + 2 * instance, scales + instance, u, v, height, width, STRIDE, SHIFT, KIND)
    features += tl.load(image_index + instance) * FEATURES * height * width
    for channel in tl.static_range(FEATURES):
        values = values + (tl.load(features + (channel * height + v) * width + u).to(tl.float32),)  # noqa: RUF005
    weights = filters + instance * COUNT
    biases = weights + WEIGHTS
    for _ in tl.static_range(DEPTH - 1):
        hidden = _layer(values, weights, biases, WIDTH, True)
        weights += WIDTH * len(values)
        biases += WIDTH
        values = hidden
    low = _layer(values, weights, biases, 1, False)[0]
    logits += instance * (FACTOR * height) * (FACTOR * width)
    _store(low, logits, top, left, height, width, FACTOR, ROWS, COLUMNS)


@triton.jit
def _coordinates(location, scale, u, v, height, width, STRIDE: tl.constexpr, SHIFT: tl.constexpr, KIND: tl.constexpr):
    """The coordinates of the instance at mask-feature pixel (u, v), as `dynamic_mask_head` defines them."""
    x = (u * STRIDE + SHIFT).to(tl.float32)
    y = (v * STRIDE + SHIFT).to(tl.float32)
    if KIND == 0:
        return ()
    elif KIND == 1:
        divisor = tl.load(scale).to(tl.float32)
        return (
            (tl.load(location).to(tl.float32) - x) / divisor,
            (tl.load(location + 1).to(tl.float32) - y) / divisor,
        )
    else:
        return (2 * x / (width * STRIDE) - 1, 2 * y / (height * STRIDE) - 1)


@triton.jit
def _layer(values, weights, biases, OUTPUTS: tl.constexpr, RELU: tl.constexpr):
    """Apply one 1×1 convolution to a tuple of tiles, one for each channel."""
    made = ()
    for output in tl.static_range(OUTPUTS):
        total = tl.load(biases + output).to(tl.float32)
        for channel in tl.static_range(len(values)):
            total += tl.load(weights + output * len(values) + channel).to(tl.float32) * values[channel]
        if RELU:
            total = tl.maximum(total, 0.0, propagate_nan=tl.PropagateNan.ALL)
        made = made + (total,)  # noqa: RUF005
    return made


@triton.jit
def _store(low, logits, top, left, height, width, FACTOR: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Enlarge a tile with first pixel (top, left) by aligned bilinear interpolation, and store the pixels it covers."""
    if FACTOR == 1:
        y = (top + tl.arange(0, ROWS))[:, None]
        x = (left + tl.arange(0, COLUMNS))[None, :]
        tl.store(logits + y * width + x, low, mask=(y < height) & (x < width))
    else:
        below = tl.minimum(tl.arange(0, ROWS) + 1, ROWS - 1)[:, None].broadcast_to(ROWS, COLUMNS)
        beside = tl.minimum(tl.arange(0, COLUMNS) + 1, COLUMNS - 1)[None, :].broadcast_to(ROWS, COLUMNS)
        down = tl.gather(low, below, 0)
        right = tl.gather(low, beside, 1)
        across = tl.gather(down, beside, 1)
        v = tl.arange(0, ROWS)[:, None]
        column = tl.arange(0, FACTOR * COLUMNS)[None, :]
        x = FACTOR * left + FACTOR // 2 + column
        inside = (v < ROWS - 1) & (column < FACTOR * (COLUMNS - 1)) & (x >= 0) & (x < FACTOR * width)
        for phase in tl.static_range(FACTOR):
            share = phase / FACTOR
            here = low * (1 - share) + down * share
            there = right * (1 - share) + across * share
            if FACTOR == 2:
                line = tl.interleave(here, (here + there) / 2)
            else:
                line = tl.interleave(
                    tl.interleave(here, (here + there) / 2),
                    tl.interleave(here * 0.75 + there * 0.25, here * 0.25 + there * 0.75),
                )
            y = FACTOR * (top + v) + FACTOR // 2 + phase
            tl.store(logits + y * (FACTOR * width) + x, line, mask=inside & (y >= 0) & (y < FACTOR * height))

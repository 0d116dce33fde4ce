"""Enlarging of mask maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from condinst.structures import Enlarging

NUMBERS_AT_ONCE = 2**19  # 2 MiB of float32: the values between the two axes stay in the cache


def enlarge(maps: Tensor, factor: int, enlarging: Enlarging) -> Tensor:
    """Enlarge maps (N, C, h, w) to (N, C, factor·h, factor·w). enlarging: see `condinst.structures.Geometry`."""
    if enlarging == "aligned" or factor == 1:
        return aligned_bilinear(maps, factor)
    height, width = maps.shape[-2:]
    return F.interpolate(maps, (factor * height, factor * width), mode="bilinear", align_corners=False)


def aligned_bilinear(maps: Tensor, factor: int) -> Tensor:
    """Enlarge maps (N, C, h, w) to (N, C, factor·h, factor·w).

    Interpolation is bilinear and aligned: with f the factor, output pixel f·i + f//2 equals input pixel i.
    """
    if factor == 1:
        return maps
    if maps.device.type == "cpu" and not being_traced():
        enlarged: Tensor = _Enlarge.apply(maps, factor)
        return enlarged
    height, width = maps.shape[-2:]
    padded = F.pad(maps, (0, 1, 0, 1), mode="replicate")
    grown = F.interpolate(padded, (factor * height + 1, factor * width + 1), mode="bilinear", align_corners=True)
    shifted = F.pad(grown, (factor // 2, 0, factor // 2, 0), mode="replicate")
    return shifted[:, :, : factor * height, : factor * width]


def being_traced() -> bool:
    """Return whether torch.compile or an exporter is tracing. Both need few, plain operations."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]


class _Enlarge(torch.autograd.Function):
    """`aligned_bilinear` one axis at a time: less than half the time on CPUs, and a sixth in the backward pass."""

    @staticmethod
    def forward(ctx: FunctionCtx, maps: Tensor, factor: int) -> Tensor:
        ctx.factor = factor  # type: ignore[attr-defined]
        height, width = maps.shape[-2:]
        return _two_axes(_stretch, maps, (3, 2), (height, factor * width), (factor * height, factor * width))

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        factor: int = ctx.factor  # type: ignore[attr-defined]
        height, width = grad.shape[-2] // factor, grad.shape[-1] // factor
        return _two_axes(_collect, grad, (2, 3), (height, factor * width), (height, width)), None


Step = Callable[[Tensor, Tensor, int], None]


def _two_axes(
    step: Step, maps: Tensor, dims: tuple[int, int], middle: tuple[int, int], size: tuple[int, int]
) -> Tensor:
    """Apply `step` along the first of `dims`, with maps of size `middle`, then along the second: (N, C, *size)."""
    made = _empty(maps, size)
    at_once = max(1, NUMBERS_AT_ONCE // (maps.shape[1] * middle[0] * middle[1]))
    for source, target in zip(torch.split(maps, at_once), torch.split(made, at_once), strict=True):
        between = _empty(source, middle)
        step(source, between, dims[0])
        step(between, target, dims[1])
    return made


def _stretch(source: Tensor, target: Tensor, dim: int) -> None:
    """Fill `target`, which is a whole number of times longer than `source` along `dim`. The ends are repeated."""
    size = source.shape[dim]
    low, high = source.narrow(dim, 0, size - 1), source.narrow(dim, 1, size - 1)
    for phase, first, share in _phases(target, size, dim):
        if not share:
            phase.copy_(source)
            continue
        end = 0 if first else size - 1
        phase.select(dim, end).copy_(source.select(dim, end))
        torch.add(low * (1 - share), high, alpha=share, out=phase.narrow(dim, first, size - 1))


def _collect(source: Tensor, target: Tensor, dim: int) -> None:
    """The adjoint of `_stretch`: gradients of the long map to gradients of the short one."""
    size = target.shape[dim]
    low, high = target.zero_().narrow(dim, 0, size - 1), target.narrow(dim, 1, size - 1)
    for phase, first, share in _phases(source, size, dim):
        if not share:
            target += phase
            continue
        end = 0 if first else size - 1
        target.select(dim, end).add_(phase.select(dim, end))
        low.add_(phase.narrow(dim, first, size - 1), alpha=1 - share)
        high.add_(phase.narrow(dim, first, size - 1), alpha=share)


def _phases(long: Tensor, size: int, dim: int) -> Iterator[tuple[Tensor, int, float]]:
    """Split `long` along `dim` into f phases, where phase p holds the pixels p, f + p, 2f + p, …

    Yields for each phase its `size` pixels, the index of the first one between two pixels of the short map, and the
    weight of the second of these two.
    """
    factor = long.shape[dim] // size
    for number, pixels in enumerate(torch.unbind(torch.unflatten(long, dim, (size, factor)), dim + 1)):
        before, steps = divmod(number - factor // 2, factor)
        yield pixels, -before, steps / factor


def _empty(like: Tensor, size: tuple[int, int]) -> Tensor:
    """An empty tensor (N, C, *size) with the dtype, device and memory format of `like`."""
    last = like.is_contiguous(memory_format=torch.channels_last) and not like.is_contiguous()
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty((*like.shape[:2], *size), dtype=like.dtype, device=like.device, memory_format=layout)

"""Resizing of mask maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

NUMBERS_AT_ONCE = 2**19  # 2 MiB of float32: what one axis hands to the next stays in the cache


def aligned_bilinear(maps: Tensor, factor: int) -> Tensor:
    """Enlarge (N, C, h, w) to (N, C, factor·h, factor·w) so that output pixel f·i + f/2 is input pixel i."""
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
    """Whether a compiler or an exporter is looking on: it wants few plain operations and orders the work itself."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]


class _Enlarge(torch.autograd.Function):
    """The same numbers, an axis at a time; on CPUs in less than half the time, and a sixth of it on the way back."""

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
    """`step` along one dimension, which gives maps of size `middle`, then along the other: (N, C, *size)."""
    made = _empty(maps, size)
    at_once = max(1, NUMBERS_AT_ONCE // (maps.shape[1] * middle[0] * middle[1]))
    for source, target in zip(torch.split(maps, at_once), torch.split(made, at_once), strict=True):
        between = _empty(source, middle)
        step(source, between, dims[0])
        step(between, target, dims[1])
    return made


def _stretch(source: Tensor, target: Tensor, dim: int) -> None:
    """Fill `target`, a whole number of times as long along `dim`; beyond the outermost pixels they go on."""
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
    """The adjoint of `_stretch`, from the long map to the short one."""
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
    """Every f-th pixel of `long` along `dim`, f times: `size` pixels, the first of them that lies between two pixels of
    the short map, and the share that the second of these two has in it."""
    factor = long.shape[dim] // size
    for number, pixels in enumerate(torch.unbind(torch.unflatten(long, dim, (size, factor)), dim + 1)):
        before, steps = divmod(number - factor // 2, factor)
        yield pixels, -before, steps / factor


def _empty(like: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, C, *size), channels last in memory where they are so in `like`."""
    last = like.is_contiguous(memory_format=torch.channels_last) and not like.is_contiguous()
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty((*like.shape[:2], *size), dtype=like.dtype, device=like.device, memory_format=layout)

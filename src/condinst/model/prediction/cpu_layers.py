"""Faster convolutions on CPUs, for prediction only. Results are equal up to rounding errors.

PyTorch runs each activation as a separate pass over memory. It copies a map to pad two of its sides. With one thread it
computes a 1×1 convolution as a matrix product that leaves half of some CPUs' arithmetic units idle. oneDNN, a part of
PyTorch, has a convolution with a built-in activation that avoids all three.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from condinst.model.backbones.same_padding import plain_same_conv
from condinst.model.prediction.probe import agree, find_pairs, run_probe


class Ending(NamedTuple):
    """The activation after a convolution: oneDNN's name for it, and its bounds."""

    name: str
    bounds: tuple[float, ...]


CACHED_NUMBERS = 2**18  # values that a WideConv converts to float32 at a time: 1 MiB
PLAIN = Ending("none", ())


def arrange_for_cpu(model: nn.Module) -> nn.Module:
    """Replace the convolutions of `model` by faster ones with the same weights. Changes and returns `model`.

    The model must be channels-last in float32, and the sides of its inputs multiples of the largest stride. The
    function compares the outputs for a small random picture before and after. If they differ, for example because a
    second layer reads a convolution, the activations stay separate. If they still differ, or PyTorch has no oneDNN, the
    model stays as it was.
    """
    if not _has_onednn():
        return model
    pairs, expected = find_pairs(model, nn.Conv2d, (nn.ReLU, nn.ReLU6, nn.SiLU))
    for endings in (dict(pairs), {}):
        before = _replace_convolutions(model, endings)
        if agree(run_probe(model), expected):
            break
        for name, module in before.items():
            model.set_submodule(name, module)
    return model


def _replace_convolutions(model: nn.Module, endings: Mapping[str, str]) -> dict[str, nn.Module]:
    """Replace the convolutions and return the old modules by name. endings: convolution name → activation name."""
    before: dict[str, nn.Module] = {}
    for name, module in list(model.named_modules()):
        activation = model.get_submodule(endings[name]) if name in endings else None
        faster = _faster(module, activation)
        if faster is None:
            continue
        before[name] = module
        model.set_submodule(name, faster)
        if activation is not None:
            before[endings[name]] = activation
            model.set_submodule(endings[name], nn.Identity())
    return before


class OneDnnConv(nn.Module):
    """A convolution with a built-in activation. weight: (out, in / groups, height, width)."""

    def __init__(self, conv: nn.Conv2d, weight: Tensor, padding: tuple[int, ...], ending: Ending) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias, self.padding, self.ending = conv.bias, padding, ending
        self.stride, self.dilation, self.groups = conv.stride, conv.dilation, conv.groups

    def forward(self, maps: Tensor) -> Tensor:
        return self.padded(maps, self.padding)

    def padded(self, maps: Tensor, padding: tuple[int, ...]) -> Tensor:
        """The convolution with another padding (rows, columns)."""
        geometry = (padding, self.stride, self.dilation, self.groups)
        answer: Tensor = torch.ops.mkldnn._convolution_pointwise(
            maps, self.weight, self.bias, *geometry, *self.ending, ""
        )
        return answer


class WideConv(nn.Module):
    """A float32 convolution between layers in half precision, computed a few rows at a time.

    The rows in float32 then stay in the cache. Reading and writing them is most of the work of a depthwise convolution.
    """

    def __init__(self, conv: OneDnnConv) -> None:
        super().__init__()
        self.layer = conv

    def forward(self, maps: Tensor) -> Tensor:
        (above, beside), down = self.layer.padding, self.layer.stride[0]
        reach = self.layer.dilation[0] * (self.layer.weight.shape[2] - 1) + 1
        height, row = maps.shape[2], maps.shape[0] * maps.shape[1] * maps.shape[3]
        rows, at_once = (height + 2 * above - reach) // down + 1, max(1, CACHED_NUMBERS // (row * down))
        if rows <= at_once:
            return self.layer(maps.float()).to(maps.dtype)  # type: ignore[no-any-return]
        parts = []
        for first in range(0, rows, at_once):
            low = first * down - above
            high = (min(first + at_once, rows) - 1) * down - above + reach
            strip = maps[:, :, max(low, 0) : min(high, height)].float()
            if low < 0 or high > height:
                strip = F.pad(strip, (0, 0, max(-low, 0), max(high - height, 0)))
            parts.append(self.layer.padded(strip, (0, beside)).to(maps.dtype))
        return torch.cat(parts, dim=2)


def _faster(module: nn.Module, activation: nn.Module | None) -> OneDnnConv | None:
    """A faster replacement for a convolution and the activation after it, or None if there is none."""
    ending = PLAIN if activation is None else _ending(activation)
    if type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str):
        return OneDnnConv(module, module.weight.detach(), module.padding, ending)
    if type(module) is Conv2dSame and module.groups > 1 and (module.kernel_size, module.stride) == ((3, 3), (2, 2)):
        plain = plain_same_conv(module)
        return None if plain is None else OneDnnConv(module, plain.weight.detach(), (1, 1), ending)
    return None


def _ending(activation: nn.Module) -> Ending:
    if isinstance(activation, nn.SiLU):
        return Ending("swish", ())
    return Ending("hardtanh", (0.0, 6.0)) if isinstance(activation, nn.ReLU6) else Ending("relu", ())


def _has_onednn() -> bool:
    """Return whether oneDNN's convolution works here. It is not part of PyTorch's public interface, so it is tried."""
    conv = nn.Conv2d(1, 1, 1)
    try:
        with torch.no_grad():
            OneDnnConv(conv, conv.weight.detach(), (0, 0), Ending("relu", ()))(torch.zeros(1, 1, 1, 1))
    except (AttributeError, RuntimeError):  # PyTorch lacks the operation, or does not support it on this machine
        return False
    return True

"""Convolutions as a CPU does them best, for prediction only: the same numbers to rounding, in less time.

torch makes every activation a pass of its own over memory, copies a map to pad it on two sides only and, with one
thread, hands a 1×1 convolution to a matrix product that leaves half of some CPUs' arithmetic idle. oneDNN, which torch
brings along, has a convolution that ends with the activation and does none of this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from condinst.model.probe import agree, find_pairs, run_probe


class Ending(NamedTuple):
    """The activation after a convolution, in oneDNN's words."""

    name: str
    bounds: tuple[float, ...]


CACHED_NUMBERS = 2**18  # that a WideConv widens at a time, 1 MiB
PLAIN = Ending("none", ())


def arrange_for_cpu(model: nn.Module) -> nn.Module:
    """`model`, channels-last in float32, with its convolutions replaced by faster ones that take over its weights.

    Inputs must have sides that are multiples of the largest stride. Whether the changed model answers the same is tried
    on a small random picture: if it does not, as where an activation is not the only reader of a convolution, all
    activations stay by themselves; if it still does not, or torch comes without oneDNN, the model is left as it was.
    """
    if not _has_onednn():
        return model
    pairs, expected = find_pairs(model, nn.Conv2d, (nn.ReLU, nn.ReLU6))
    for endings in (dict(pairs), {}):
        before = _replace_convolutions(model, endings)
        if agree(run_probe(model), expected):
            break
        for name, module in before.items():
            model.set_submodule(name, module)
    return model


def _replace_convolutions(model: nn.Module, endings: Mapping[str, str]) -> dict[str, nn.Module]:
    """What was replaced, by name. endings: the names of activations by that of the convolution they follow."""
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
    """A convolution and what ends it. weight: (out, in / groups, height, width)."""

    def __init__(self, conv: nn.Conv2d, weight: Tensor, padding: tuple[int, ...], ending: Ending) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias, self.padding, self.ending = conv.bias, padding, ending
        self.stride, self.dilation, self.groups = conv.stride, conv.dilation, conv.groups

    def forward(self, maps: Tensor) -> Tensor:
        return self.padded(maps, self.padding)

    def padded(self, maps: Tensor, padding: tuple[int, ...]) -> Tensor:
        """The same with another padding of (rows, columns)."""
        geometry = (padding, self.stride, self.dilation, self.groups)
        answer: Tensor = torch.ops.mkldnn._convolution_pointwise(
            maps, self.weight, self.bias, *geometry, *self.ending, ""
        )
        return answer


class WideConv(nn.Module):
    """A convolution in float32 between neighbours of a narrower type, a few rows at a time.

    What is widened then stays in the cache: for a depthwise convolution reading and writing it is most of the work.
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
    """What may stand for a convolution and the activation after it; None where nothing is gained."""
    ending = PLAIN if activation is None else _ending(activation)
    if type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str):
        return OneDnnConv(module, module.weight.detach(), module.padding, ending)
    if type(module) is Conv2dSame and module.groups > 1 and (module.kernel_size, module.stride) == ((3, 3), (2, 2)):
        # of a map with even sides only the far ones are padded; a kernel with a row and column of zeros needs no copy
        return OneDnnConv(module, F.pad(module.weight.detach(), (1, 0, 1, 0)), (1, 1), ending)
    return None


def _ending(activation: nn.Module) -> Ending:
    return Ending("hardtanh", (0.0, 6.0)) if isinstance(activation, nn.ReLU6) else Ending("relu", ())


def _has_onednn() -> bool:
    """Whether the operation works here: it is not part of torch's public interface."""
    conv = nn.Conv2d(1, 1, 1)
    try:
        with torch.no_grad():
            OneDnnConv(conv, conv.weight.detach(), (0, 0), Ending("relu", ()))(torch.zeros(1, 1, 1, 1))
    except (AttributeError, RuntimeError):  # no such operation, or none for this machine
        return False
    return True

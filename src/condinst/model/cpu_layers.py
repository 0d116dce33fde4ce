"""Convolutions as a CPU does them best, for prediction only: the same numbers to rounding, in less time.

torch hands a 1×1 convolution of channels-last maps to a matrix product that leaves half of some CPUs' arithmetic idle,
makes every activation a pass of its own over memory, and copies a map to pad it on two sides only. oneDNN, which torch
brings along, has a product and a convolution that end with the activation.
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


PLAIN = Ending("none", ())


def arrange_for_cpu(model: nn.Module) -> nn.Module:
    """`model`, channels-last in float32, with its convolutions replaced by faster ones that take over its weights.

    Inputs must have sides that are multiples of the largest stride. Whether the changed model answers the same is tried
    on a small random picture: if it does not, as where an activation is not the only reader of a convolution, all
    activations stay by themselves; if it still does not, or torch comes without oneDNN, the model is left as it was.
    """
    if not _has_onednn():
        return model
    expected = run_probe(model)
    for endings in (dict(find_pairs(model, nn.Conv2d, (nn.ReLU, nn.ReLU6))), {}):
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


class PointwiseConv(nn.Module):
    """A 1×1 convolution and what ends it, as one matrix product. weight: (out, in)."""

    def __init__(self, conv: nn.Conv2d, ending: Ending) -> None:
        super().__init__()
        self.weight = nn.Parameter(conv.weight.detach().flatten(1).contiguous(), requires_grad=False)
        self.bias, self.stride, self.ending = conv.bias, conv.stride, ending

    def forward(self, maps: Tensor) -> Tensor:
        down, right = self.stride
        rows = maps[:, :, ::down, ::right].permute(0, 2, 3, 1).contiguous()
        product = torch.ops.mkldnn._linear_pointwise(rows, self.weight, self.bias, *self.ending, "")
        answer: Tensor = product.permute(0, 3, 1, 2)
        return answer


class EndedConv(nn.Module):
    """Any convolution and what ends it."""

    def __init__(self, conv: nn.Conv2d, weight: Tensor, padding: tuple[int, ...], ending: Ending) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias, self.padding, self.ending = conv.bias, padding, ending
        self.stride, self.dilation, self.groups = conv.stride, conv.dilation, conv.groups

    def forward(self, maps: Tensor) -> Tensor:
        geometry = (self.padding, self.stride, self.dilation, self.groups)
        answer: Tensor = torch.ops.mkldnn._convolution_pointwise(
            maps, self.weight, self.bias, *geometry, *self.ending, ""
        )
        return answer


def _faster(module: nn.Module, activation: nn.Module | None) -> nn.Module | None:
    """What may stand for a convolution and the activation after it; None where nothing is gained."""
    ending = PLAIN if activation is None else _ending(activation)
    if type(module) is Conv2dSame and _is_depthwise(module) and module.stride == (2, 2):
        if module.kernel_size != (3, 3):
            return None
        # of a map with even sides only the far ones are padded; a kernel with a row and column of zeros needs no copy
        return EndedConv(module, F.pad(module.weight.detach(), (1, 0, 1, 0)), (1, 1), ending)
    if type(module) is not nn.Conv2d or module.padding_mode != "zeros" or isinstance(module.padding, str):
        return None
    if module.kernel_size == (1, 1) and module.padding == (0, 0) and module.groups == 1:
        return PointwiseConv(module, ending)
    return None if activation is None else EndedConv(module, module.weight.detach(), module.padding, ending)


def _is_depthwise(conv: nn.Conv2d) -> bool:
    return conv.groups == conv.in_channels == conv.out_channels


def _ending(activation: nn.Module) -> Ending:
    return Ending("hardtanh", (0.0, 6.0)) if isinstance(activation, nn.ReLU6) else Ending("relu", ())


def _has_onednn() -> bool:
    """Whether both operations work here: they are not part of torch's public interface."""
    probe = torch.zeros(1, 1, 1, 1)
    try:
        with torch.no_grad():
            PointwiseConv(nn.Conv2d(1, 1, 1), PLAIN)(probe)
            EndedConv(nn.Conv2d(1, 1, 1), torch.zeros(1, 1, 1, 1), (0, 0), Ending("relu", ()))(probe)
    except (AttributeError, RuntimeError):  # no such operation, or none for this machine
        return False
    return True

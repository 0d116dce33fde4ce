"""C3–C5 → P3–P7 with learned weights, top-down and bottom-up, several times over (BiFPN, arXiv 1911.09070)."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn, ones

EPSILON = 1e-4  # keeps the weights' sum away from zero


class Node(NamedTuple):
    """A fusion: the level it makes and the features it reads, 0–4 the five inputs, 5… the nodes made so far."""

    level: int
    inputs: tuple[int, ...]


NODES = (
    Node(3, (3, 4)),
    Node(2, (2, 5)),
    Node(1, (1, 6)),
    Node(0, (0, 7)),
    Node(1, (1, 7, 8)),
    Node(2, (2, 6, 9)),
    Node(3, (3, 5, 10)),
    Node(4, (4, 11)),
)


class BiFPN(nn.Module):
    """As FPN: C3, C4, C5 → P3…P7, but P6 and P7 are made of C5 before the levels mix."""

    def __init__(self, in_channels: tuple[int, ...], channels: int, repeats: int) -> None:
        super().__init__()
        self.reduce = conv_norm(in_channels[-1], channels, 1, bias=False)
        first = (*in_channels, channels, channels)
        self.repeats = nn.ModuleList(
            Repeat(first if not index else (channels,) * 5, channels) for index in range(repeats)
        )

    def forward(self, features: list[Tensor]) -> tuple[Tensor, ...]:
        """C3, C4, C5 at strides 8, 16, 32 → P3…P7 (N, channels, h, w) at strides 8…128."""
        p6 = halve(self.reduce(features[-1]))
        levels = [*features, p6, halve(p6)]
        for repeat in self.repeats:
            levels = repeat(levels)
        return tuple(levels)


class Repeat(nn.Module):
    """Five levels in, five out, each `channels` wide. Inputs of another width pass a 1×1 convolution first."""

    def __init__(self, in_channels: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleDict(
            {str(level): conv_norm(count, channels, 1) for level, count in enumerate(in_channels) if count != channels}
        )
        self.fusions = nn.ModuleList(Fusion(len(node.inputs), channels) for node in NODES)

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        features = list(levels)
        outputs = list(levels)
        for node, fusion in zip(NODES, self.fusions, strict=True):
            size = levels[node.level].shape[-2:]
            made = fusion([fit(self._narrow(features[index], index), size) for index in node.inputs])
            features.append(made)
            outputs[node.level] = made  # the last node of a level is its output
        return outputs

    def _narrow(self, feature: Tensor, index: int) -> Tensor:
        # at every use, as published: in training the norm sees a feature as often as it is used
        key = str(index)
        return self.laterals[key](feature) if key in self.laterals else feature


class Fusion(nn.Module):
    """A weighted mean of maps of one size, swish, a 3×3 convolution and its norm."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(ones(inputs))
        self.output = conv_norm(channels, channels, 3, bias=False)

    def forward(self, parts: list[Tensor]) -> Tensor:
        weights = self.weights.relu()
        shares = weights / (weights.sum() + EPSILON)
        mixed = sum((share * part for share, part in zip(shares, parts, strict=True)), start=shares.new_zeros(()))
        made: Tensor = self.output(F.silu(mixed))
        return made


def conv_norm(in_channels: int, channels: int, side: int, bias: bool = True) -> nn.Sequential:
    """Convolution that keeps the size, batch norm; kaiming-uniform (a=1)."""
    conv = nn.Conv2d(in_channels, channels, side, padding=side // 2, bias=bias)
    nn.init.kaiming_uniform_(conv.weight, a=1)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return nn.Sequential(conv, nn.BatchNorm2d(channels))


def fit(feature: Tensor, size: tuple[int, ...]) -> Tensor:
    """A neighbouring level's map at this level's (h, w)."""
    if feature.shape[-2] > size[0] or feature.shape[-1] > size[1]:
        return halve(feature)
    return feature if feature.shape[-2:] == size else F.interpolate(feature, size, mode="nearest")


def halve(feature: Tensor) -> Tensor:
    """(N, C, h, w) → (N, C, ⌈h/2⌉, ⌈w/2⌉)."""
    return F.max_pool2d(feature, 3, stride=2, padding=1)

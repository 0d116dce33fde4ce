"""BiFPN: a pyramid P3–P7 from C3–C5, with repeated weighted fusion top-down and bottom-up (arXiv 1911.09070)."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn, ones

EPSILON = 1e-4  # avoids a division by zero


class Node(NamedTuple):
    """One fusion of a repeat.

    level: the level of its output, 0 for P3. inputs: the features it reads: 0–4 are the five inputs of the repeat, 5
    and above are the outputs of earlier nodes.
    """

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
LEVELS = (0, 1, 2, 3, 4, *(node.level for node in NODES))  # the level of each feature that a node may read


class BiFPN(nn.Module):
    """C3, C4, C5 → P3…P7 as `FPN`, but P6 and P7 are made from C5 before the first fusion."""

    def __init__(self, in_channels: tuple[int, ...], channels: int, repeats: int) -> None:
        super().__init__()
        self.reduce = conv_norm(in_channels[-1], channels, 1, bias=False)
        first = (*in_channels, channels, channels)
        self.repeats = nn.ModuleList(
            Repeat(first if not index else (channels,) * 5, channels) for index in range(repeats)
        )

    def forward(self, features: list[Tensor]) -> tuple[Tensor, ...]:
        """C3, C4, C5 at strides 8, 16 and 32 → P3…P7, each (N, channels, h, w), at strides 8…128."""
        p6 = halve(self.reduce(features[-1]))
        levels = [*features, p6, halve(p6)]
        for repeat in self.repeats:
            levels = repeat(levels)
        return tuple(levels)


class Repeat(nn.Module):
    """Five levels → five levels with `channels` channels. A 1×1 convolution adapts inputs with other channel counts."""

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
            made = fusion(
                [fit(self._narrow(features[index], index), LEVELS[index] - node.level, size) for index in node.inputs]
            )
            features.append(made)
            outputs[node.level] = made  # the last node of a level is its output
        return outputs

    def _narrow(self, feature: Tensor, index: int) -> Tensor:
        # applied at every use, as in the published model: in training the norm sees a feature once for each use
        key = str(index)
        return self.laterals[key](feature) if key in self.laterals else feature


class Fusion(nn.Module):
    """A weighted mean of maps of equal size, followed by swish, a 3×3 convolution and a batch norm."""

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
    """A convolution that keeps the size, and a batch norm. Initialisation: Kaiming uniform with a=1."""
    conv = nn.Conv2d(in_channels, channels, side, padding=side // 2, bias=bias)
    nn.init.kaiming_uniform_(conv.weight, a=1)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return nn.Sequential(conv, nn.BatchNorm2d(channels))


def fit(feature: Tensor, levels_up: int, size: tuple[int, ...]) -> Tensor:
    """Resize a map to `size` (h, w), the size of its own or of an adjacent level.

    levels_up: the level of the map minus the level of the result. −1: max pooling with stride 2. 0: no change. 1:
    nearest neighbour.
    """
    if levels_up < 0:
        return halve(feature)
    return F.interpolate(feature, size, mode="nearest") if levels_up else feature


def halve(feature: Tensor) -> Tensor:
    """Max pooling with stride 2: (N, C, h, w) → (N, C, ⌈h/2⌉, ⌈w/2⌉)."""
    return F.max_pool2d(feature, 3, stride=2, padding=1)

"""Towers of convolutions on the levels of a pyramid, with shared or with own weights (arXiv 2212.07784, §3.3)."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy

from torch import Tensor, nn

from condinst.model.backbones.cspnext_blocks import ConvNormSiLU


class LevelTowers(nn.Module):
    """A tower for each level. The maps of all levels (N, C, h, w) → the maps of all levels."""

    def __init__(self, towers: Iterable[nn.Sequential]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(towers)

    def forward(self, pyramid: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(tower(maps) for tower, maps in zip(self.levels, pyramid, strict=True))


class SharedTower(nn.Module):
    """A tower of 3×3 convolutions that all levels share. Each level has its own batch norms. SiLUs follow the norms.

    Levels differ in the statistics of their maps, not in what the convolutions look for. The maps of all levels
    (N, in_channels, h, w) → (N, channels, h, w). momentum: part of the batch in the norms' running statistics. relu:
    ReLUs instead of SiLUs, and convolutions with a bias, as in BlendMask.
    """

    def __init__(
        self, in_channels: int, channels: int, convs: int, levels: int, momentum: float, relu: bool = False
    ) -> None:
        super().__init__()
        inputs = _inputs(in_channels, channels, convs)
        self.convs = nn.ModuleList(nn.Conv2d(count, channels, 3, padding=1, bias=relu) for count in inputs)
        self.norms = nn.ModuleList(
            nn.ModuleList(nn.BatchNorm2d(channels, momentum=momentum) for _ in inputs) for _ in range(levels)
        )
        self.act = nn.ReLU() if relu else nn.SiLU()

    def forward(self, pyramid: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        answers = []
        for norms, level in zip(self.norms, pyramid, strict=True):
            maps = level
            for conv, norm in zip(self.convs, norms, strict=True):  # type: ignore[call-overload]
                maps = self.act(norm(conv(maps)))
            answers.append(maps)
        return tuple(answers)

    def unshared(self) -> LevelTowers:
        """The same function with a copy of the convolutions for each level."""
        towers = []
        for norms in self.norms:
            pairs = zip(self.convs, norms, strict=True)  # type: ignore[call-overload]
            layers = [layer for conv, norm in pairs for layer in (deepcopy(conv), deepcopy(norm), deepcopy(self.act))]
            towers.append(nn.Sequential(*layers))
        return LevelTowers(towers).train(self.training)


def make_tower(in_channels: int, channels: int, convs: int) -> nn.Sequential:
    """A tower of 3×3 convolutions for one level."""
    return nn.Sequential(*(ConvNormSiLU(count, channels, 3) for count in _inputs(in_channels, channels, convs)))


def _inputs(in_channels: int, channels: int, convs: int) -> list[int]:
    """The number of input channels of each convolution of a tower."""
    return [in_channels, *[channels] * (convs - 1)][:convs]

"""The head of YOLACT: class logits, deltas and mask coefficients of each anchor (arXiv 1904.02689, §3.1)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from condinst.ops.anchors import RATIOS

ANCHORS = len(RATIOS)


class AnchorOutput(NamedTuple):
    """The output of the head: one map for each pyramid level, P3 first. A anchors in each cell, F prototypes.

    class_logits: (N, A·(C+1), h, w), anchor by anchor. The last class of an anchor is the background.
    deltas: (N, A·4, h, w), see `condinst.ops.anchors`.
    coefficients: (N, A·F, h, w) in (−1, 1), the factors of the prototypes.
    """

    class_logits: tuple[Tensor, ...]
    deltas: tuple[Tensor, ...]
    coefficients: tuple[Tensor, ...]


class AnchorHead(nn.Module):
    """A tower that all levels share, and three convolutions that predict. P3…P7 (N, in_channels, h, w) → AnchorOutput.

    The tower has `convs` 3×3 convolutions of `channels`, each with a ReLU and without a norm.
    """

    def __init__(self, in_channels: int, channels: int, convs: int, classes: int, prototypes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(convs):
            layers += [nn.Conv2d(channels if index else in_channels, channels, 3, padding=1), nn.ReLU()]
        self.tower = nn.Sequential(*layers)
        top = channels if convs else in_channels
        self.class_logits = nn.Conv2d(top, ANCHORS * (classes + 1), 3, padding=1)
        self.deltas = nn.Conv2d(top, ANCHORS * 4, 3, padding=1)
        self.coefficients = nn.Conv2d(top, ANCHORS * prototypes, 3, padding=1)
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d):
                if name.startswith("tower"):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                else:
                    nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, pyramid: tuple[Tensor, ...]) -> AnchorOutput:
        towers = [self.tower(level) for level in pyramid]
        return AnchorOutput(
            tuple(self.class_logits(level) for level in towers),
            tuple(self.deltas(level) for level in towers),
            tuple(self.coefficients(level).tanh() for level in towers),
        )


def each_anchor(level: Tensor) -> Tensor:
    """Reshape a map (N, A·n, h, w) to (N, h·w·A, n), in the order of `condinst.ops.anchors`."""
    images, channels, height, width = level.shape
    numbers = channels // ANCHORS
    return level.permute(0, 2, 3, 1).reshape(images, height * width * ANCHORS, numbers)

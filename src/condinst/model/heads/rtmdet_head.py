"""The head of RTMDet-Ins: class logits, distances and the filters of the dynamic mask head (arXiv 2212.07784, §3.3)."""

from __future__ import annotations

import math

from torch import Tensor, nn

from condinst.model.heads.level_towers import LevelTowers, SharedTower, make_tower
from condinst.settings.model import HeadConfig
from condinst.structures import RTMDET_INS, HeadOutput

LEVELS = len(RTMDET_INS.strides)
MOMENTUM = 0.1
# The published training runs the common tower twice in each step, once for the classes and once for the boxes. One run
# with this momentum moves the running statistics as far.
MOMENTUM_OF_TWO = 1 - (1 - MOMENTUM) ** 2


class RTMDetHead(nn.Module):
    """A tower for classes and boxes, and for each level a tower for the filters. 1×1 convolutions predict.

    The class tower is also the box tower, as in the published models, unless config.separate_box_tower. Input: P3, P4
    and P5, each (N, in_channels, h, w). Output: `HeadOutput` without centerness. filters: numbers for one instance.
    """

    def __init__(self, in_channels: int, config: HeadConfig, classes: int, filters: int) -> None:
        super().__init__()
        channels, convs = config.channels, config.convs
        momentum = MOMENTUM if config.separate_box_tower else MOMENTUM_OF_TWO
        self.class_tower = SharedTower(in_channels, channels, convs, LEVELS, momentum)
        self.box_tower = (
            SharedTower(in_channels, channels, convs, LEVELS, momentum) if config.separate_box_tower else None
        )
        self.controller_tower: nn.Module = LevelTowers(make_tower(in_channels, channels, convs) for _ in range(LEVELS))
        top = channels if convs else in_channels
        self.class_logits = nn.ModuleList(nn.Conv2d(top, classes, 1) for _ in range(LEVELS))
        self.distances = nn.ModuleList(nn.Conv2d(top, 4, 1) for _ in range(LEVELS))
        self.controller = nn.ModuleList(nn.Conv2d(top, filters, 1) for _ in range(LEVELS))
        self._set_first_weights(config)

    def forward(self, pyramid: tuple[Tensor, ...]) -> HeadOutput:
        classes = self.class_tower(pyramid)
        boxes = classes if self.box_tower is None else self.box_tower(pyramid)
        return HeadOutput(
            class_logits=_predict(self.class_logits, classes),
            distances_in_strides=tuple(distances.relu() for distances in _predict(self.distances, boxes)),
            centerness_logits=(),
            filters=_predict(self.controller, self.controller_tower(pyramid)),
        )

    def _set_first_weights(self, config: HeadConfig) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=config.tower_std if "tower" in name else 0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for logits, distances in zip(self.class_logits, self.distances, strict=True):
            nn.init.constant_(logits.bias, -math.log((1 - config.prior) / config.prior))  # type: ignore[arg-type]
            nn.init.constant_(distances.bias, config.distance_prior)  # type: ignore[arg-type]


def _predict(convs: nn.ModuleList, levels: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(conv(maps) for conv, maps in zip(convs, levels, strict=True))

"""The FCOS head: class logits, distances, centerness and the controller's filters from P3–P7 (paper §3.2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from condinst.model.backbones.deformable import DeformableConv
from condinst.model.heads.level_towers import SharedTower
from condinst.model.heads.norm_groups import norm_groups
from condinst.settings.model import HeadConfig
from condinst.structures import STRIDES, HeadOutput

MOMENTUM = 0.1


class FCOSHead(nn.Module):
    """A class tower and a box tower, shared by all levels. The controller reads the box tower.

    Input: P3, P4, …, each (N, in_channels, h, w). Output: `HeadOutput`. filters: channels of the controller. levels:
    number of pyramid levels. scaled: multiply the distances by a learned scale for each level. mask_tower: give the
    controller a tower of its own, as in MEInst.
    """

    def __init__(
        self,
        in_channels: int,
        config: HeadConfig,
        classes: int,
        filters: int,
        levels: int = len(STRIDES),
        scaled: bool = True,
        mask_tower: bool = False,
    ) -> None:
        super().__init__()
        inside = config.channels if config.shared_convs else in_channels
        towers = (inside, config.channels, config.convs, config.deformable)
        self.shared_tower = _shared_tower(in_channels, config, levels)
        self.class_tower = _tower(*towers)
        self.box_tower = _tower(*towers)
        self.mask_tower = _tower(*towers) if mask_tower else None
        top = config.channels if config.convs else inside
        self.class_logits = nn.Conv2d(top, classes, 3, padding=1)
        self.distances: nn.Module = nn.Conv2d(top, 4, 3, padding=1)
        self.centerness: nn.Module = nn.Conv2d(top, 1, 3, padding=1)
        self.joint: nn.Module | None = None  # both in one convolution, for prediction
        self.controller: nn.Module = nn.Conv2d(top, filters, 3, padding=1)
        self.recompute = False  # whether the backward pass computes the towers' maps again
        self.scales = nn.Parameter(torch.ones(levels)) if scaled else None
        self._set_first_weights(config)

    def _set_first_weights(self, config: HeadConfig) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=config.tower_std if "tower" in name else 0.01)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
            elif isinstance(module, DeformableConv):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
        nn.init.constant_(self.class_logits.bias, -math.log((1 - config.prior) / config.prior))  # type: ignore[arg-type]
        nn.init.constant_(self.distances.bias, config.distance_prior)  # type: ignore[arg-type]

    def forward(self, pyramid: tuple[Tensor, ...]) -> HeadOutput:
        if isinstance(self.shared_tower, nn.Sequential):
            pyramid = tuple(self.shared_tower(level) for level in pyramid)
        elif self.shared_tower is not None:
            pyramid = self.shared_tower(pyramid)
        again = self.recompute and self.training
        towers = [
            checkpoint(self._towers, level, use_reentrant=False) if again else self._towers(level) for level in pyramid
        ]
        sides = [self._distances_and_centerness(boxes) for _, boxes, _ in towers]
        scales = [None] * len(pyramid) if self.scales is None else self.scales
        return HeadOutput(
            class_logits=tuple(self.class_logits(classes) for classes, _, _ in towers),
            distances_in_strides=tuple(
                (distances if scale is None else scale * distances).relu()
                for (distances, _), scale in zip(sides, scales, strict=True)
            ),
            centerness_logits=tuple(centerness for _, centerness in sides),
            filters=tuple(self.controller(masks) for _, _, masks in towers),
        )

    def _distances_and_centerness(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        if self.joint is None:
            return self.distances(boxes), self.centerness(boxes)
        both = self.joint(boxes)
        return both[:, :4], both[:, 4:]

    def _towers(self, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The maps that the classes, the boxes and the controller read."""
        boxes = self.box_tower(level)
        return self.class_tower(level), boxes, boxes if self.mask_tower is None else self.mask_tower(level)


def _shared_tower(in_channels: int, config: HeadConfig, levels: int) -> nn.Module | None:
    """The convolutions before the two towers."""
    if not config.shared_convs:
        return None
    if config.level_norms:
        return SharedTower(in_channels, config.channels, config.shared_convs, levels, MOMENTUM, relu=True)
    return _tower(in_channels, config.channels, config.shared_convs)


def _tower(in_channels: int, channels: int, convs: int, deformable: bool = False) -> nn.Sequential:
    """3×3 convolutions with norms and ReLUs. deformable: the last convolution is deformable and has no bias."""
    layers: list[nn.Module] = []
    for index in range(convs):
        last = deformable and index == convs - 1
        conv = nn.Conv2d(channels if index else in_channels, channels, 3, padding=1, bias=not last)
        layers += [
            DeformableConv(conv, modulated=False) if last else conv,
            nn.GroupNorm(norm_groups(channels), channels),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)

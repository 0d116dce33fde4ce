"""The FCOS head: class logits, distances, centerness and the controller's filters from P3–P7 (paper §3.2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from condinst.model.heads.norm_groups import norm_groups
from condinst.structures import STRIDES, HeadOutput


class FCOSHead(nn.Module):
    """A class tower and a box tower, shared by all levels. The controller reads the box tower.

    Input: P3…P7, each (N, in_channels, h, w). Output: `HeadOutput`.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        convs: int,
        classes: int,
        filters: int,
        prior: float,
        distance_prior: float = 0.0,
        tower_std: float = 0.01,
    ) -> None:
        super().__init__()
        self.class_tower = _tower(in_channels, channels, convs)
        self.box_tower = _tower(in_channels, channels, convs)
        top = channels if convs else in_channels
        self.class_logits = nn.Conv2d(top, classes, 3, padding=1)
        self.distances: nn.Module = nn.Conv2d(top, 4, 3, padding=1)
        self.centerness: nn.Module = nn.Conv2d(top, 1, 3, padding=1)
        self.joint: nn.Module | None = None  # both in one convolution, for prediction
        self.controller: nn.Module = nn.Conv2d(top, filters, 3, padding=1)
        self.recompute = False  # whether the backward pass computes the towers' maps again
        self.scales = nn.Parameter(torch.ones(len(STRIDES)))
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=tower_std if "tower" in name else 0.01)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.class_logits.bias, -math.log((1 - prior) / prior))  # type: ignore[arg-type]
        nn.init.constant_(self.distances.bias, distance_prior)  # type: ignore[arg-type]

    def forward(self, pyramid: tuple[Tensor, ...]) -> HeadOutput:
        again = self.recompute and self.training
        towers = [
            checkpoint(self._towers, level, use_reentrant=False) if again else self._towers(level) for level in pyramid
        ]
        sides = [self._distances_and_centerness(boxes) for _, boxes in towers]
        return HeadOutput(
            class_logits=tuple(self.class_logits(classes) for classes, _ in towers),
            distances_in_strides=tuple(
                (scale * distances).relu() for (distances, _), scale in zip(sides, self.scales, strict=True)
            ),
            centerness_logits=tuple(centerness for _, centerness in sides),
            filters=tuple(self.controller(boxes) for _, boxes in towers),
        )

    def _distances_and_centerness(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        if self.joint is None:
            return self.distances(boxes), self.centerness(boxes)
        both = self.joint(boxes)
        return both[:, :4], both[:, 4:]

    def _towers(self, level: Tensor) -> tuple[Tensor, Tensor]:
        return self.class_tower(level), self.box_tower(level)


def _tower(in_channels: int, channels: int, convs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index in range(convs):
        layers += [
            nn.Conv2d(channels if index else in_channels, channels, 3, padding=1),
            nn.GroupNorm(norm_groups(channels), channels),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)

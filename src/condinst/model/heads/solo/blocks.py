"""The layers that the heads of the SOLO family are made of (arXiv 1912.04488, §3; arXiv 2003.10152, §3)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condinst.model.backbones.deformable import DeformableConv
from condinst.model.heads.norm_groups import norm_groups

Deformable = Literal["none", "last", "all"]


class ConvNormReLU(nn.Module):
    """A convolution without bias, a GroupNorm and a ReLU: (N, in_channels, h, w) → (N, channels, h, w).

    deformable: make the convolution deformable, see `DeformableConv`.
    """

    def __init__(self, in_channels: int, channels: int, kernel: int = 3, deformable: bool = False) -> None:
        super().__init__()
        conv = nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2, bias=False)
        self.conv: nn.Module = DeformableConv(conv) if deformable else conv
        self.norm = nn.GroupNorm(norm_groups(channels), channels)

    def forward(self, maps: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(maps)))


def make_tower(in_channels: int, channels: int, convs: int, deformable: Deformable = "none") -> nn.Sequential:
    """A tower of `convs` 3×3 blocks. deformable: see `SoloConfig`."""
    inputs = [in_channels, *[channels] * (convs - 1)][:convs]
    bent = [deformable == "all" or (deformable == "last" and index == convs - 1) for index in range(convs)]
    return nn.Sequential(*(ConvNormReLU(count, channels, 3, one) for count, one in zip(inputs, bent, strict=True)))


def with_coordinates(maps: Tensor, axes: str = "xy") -> Tensor:
    """Append the coordinates of each pixel, from −1 to 1 over the map, as channels: (N, C + len(axes), h, w)."""
    count, _, height, width = maps.shape
    across = torch.linspace(-1, 1, width, device=maps.device).expand(count, 1, height, width)
    down = torch.linspace(-1, 1, height, device=maps.device)[:, None].expand(count, 1, height, width)
    chosen = [{"x": across, "y": down}[axis].to(maps.dtype) for axis in axes]
    return torch.cat([maps, *chosen], dim=1)


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps (N, C, h, w) to (N, C, *size), bilinear. Halving takes the mean of each 2×2 pixels."""
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)


def double(maps: Tensor) -> Tensor:
    """Enlarge maps (N, C, h, w) to (N, C, 2h, 2w), bilinear."""
    return resize(maps, (2 * maps.shape[-2], 2 * maps.shape[-1]))


def levels_of(pyramid: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """P2…P6 → the maps of the five levels at strides 8, 8, 16, 32 and 32: P2 shrinks and P6 grows to its neighbour."""
    p2, p3, p4, p5, p6 = pyramid
    return resize(p2, (p3.shape[-2], p3.shape[-1])), p3, p4, p5, resize(p6, (p5.shape[-2], p5.shape[-1]))


def set_first_weights(head: nn.Module, std: float, prior: float, sure: Iterable[nn.Module]) -> None:
    """Draw the weights of the plain convolutions of `head` from N(0, std²). Their biases become 0.

    The biases of the layers `sure` become the logit of `prior`. Deformable convolutions keep PyTorch's weights.
    """
    for name, module in head.named_modules():
        if isinstance(module, nn.Conv2d) and not name.endswith(".offset"):
            nn.init.normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for layer in sure:
        nn.init.constant_(layer.bias, -math.log((1 - prior) / prior))  # type: ignore[arg-type]

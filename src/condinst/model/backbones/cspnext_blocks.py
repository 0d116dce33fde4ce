"""The layers that CSPNeXt, its pyramid and the head of RTMDet-Ins are made of (arXiv 2212.07784, §3.1)."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DEPTHWISE_KERNEL = 5
POOL_KERNEL = 5


class ConvNormSiLU(nn.Module):
    """A convolution without bias, a batch norm and a SiLU: (N, in_channels, H, W) → (N, channels, H/stride, W/stride).

    PyTorch's initial weights, U(±1/√fan_in), and its settings of the norm are the published ones.
    """

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.act = nn.SiLU()

    def forward(self, maps: Tensor) -> Tensor:
        return cast(Tensor, self.act(self.bn(self.conv(maps))))


class DepthwiseSeparable(nn.Module):
    """A depthwise 5×5 convolution and a 1×1 convolution, each with norm and SiLU. The shape stays (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise_conv = ConvNormSiLU(channels, channels, DEPTHWISE_KERNEL, groups=channels)
        self.pointwise_conv = ConvNormSiLU(channels, channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        return cast(Tensor, self.pointwise_conv(self.depthwise_conv(maps)))


class Block(nn.Module):
    """A 3×3 convolution and a depthwise separable one. residual: add the input to the result."""

    def __init__(self, channels: int, residual: bool) -> None:
        super().__init__()
        self.conv1 = ConvNormSiLU(channels, channels, 3)
        self.conv2 = DepthwiseSeparable(channels)
        self.residual = residual

    def forward(self, maps: Tensor) -> Tensor:
        made: Tensor = self.conv2(self.conv1(maps))
        return made + maps if self.residual else made


class ChannelAttention(nn.Module):
    """Multiply each channel of (N, C, H, W) by a factor in [0, 1] that depends on the means of all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)
        self.act = nn.Hardsigmoid()
        nn.init.zeros_(self.fc.bias)  # type: ignore[arg-type]

    def forward(self, maps: Tensor) -> Tensor:
        factors: Tensor = self.act(self.fc(maps.mean((2, 3), keepdim=True)))
        return maps * factors


class CSPLayer(nn.Module):
    """A cross-stage partial layer: (N, in_channels, H, W) → (N, channels, H, W).

    Half of the channels pass through the blocks, the other half goes around them. attention: weight the channels
    before the last convolution joins the halves. residual: see `Block`.
    """

    def __init__(self, in_channels: int, channels: int, blocks: int, residual: bool, attention: bool) -> None:
        super().__init__()
        half = channels // 2
        self.main_conv = ConvNormSiLU(in_channels, half, 1)
        self.short_conv = ConvNormSiLU(in_channels, half, 1)
        self.final_conv = ConvNormSiLU(2 * half, channels, 1)
        self.blocks = nn.Sequential(*(Block(half, residual) for _ in range(blocks)))
        self.attention = ChannelAttention(2 * half) if attention else None

    def forward(self, maps: Tensor) -> Tensor:
        both = torch.cat([self.blocks(self.main_conv(maps)), self.short_conv(maps)], dim=1)
        if self.attention is not None:
            both = self.attention(both)
        return cast(Tensor, self.final_conv(both))


class SpatialPyramidPooling(nn.Module):
    """Join a map with its maxima over windows of 5, 9 and 13 cells. The shape stays (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvNormSiLU(channels, channels // 2, 1)
        self.conv2 = ConvNormSiLU(channels // 2 * 4, channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        parts = [self.conv1(maps)]
        for _ in range(3):  # two windows of 5 in a row make one of 9, three make one of 13
            parts.append(F.max_pool2d(parts[-1], POOL_KERNEL, stride=1, padding=POOL_KERNEL // 2))
        return cast(Tensor, self.conv2(torch.cat(parts, dim=1)))

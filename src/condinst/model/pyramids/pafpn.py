"""CSPNeXt-PAFPN, the feature pyramid of RTMDet-Ins: P3–P5 from C3–C5 (arXiv 2212.07784, §3.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condinst.model.backbones.cspnext_blocks import ConvNormSiLU, CSPLayer


class PAFPN(nn.Module):
    """C3, C4, C5 → P3, P4, P5. A path from C5 to C3 comes first, and a path back to stride 32 follows.

    in_channels: channels of C3, C4 and C5, which the two paths keep. channels: channels of each output.
    blocks: number of blocks in each of the four stages.
    """

    def __init__(self, in_channels: tuple[int, ...], channels: int, blocks: int) -> None:
        super().__init__()
        c3, c4, c5 = in_channels
        self.reduce_layers = nn.ModuleList([ConvNormSiLU(c5, c4, 1), ConvNormSiLU(c4, c3, 1)])
        self.top_down_blocks = nn.ModuleList([_stage(2 * c4, c4, blocks), _stage(2 * c3, c3, blocks)])
        self.downsamples = nn.ModuleList([ConvNormSiLU(c3, c3, 3, stride=2), ConvNormSiLU(c4, c4, 3, stride=2)])
        self.bottom_up_blocks = nn.ModuleList([_stage(2 * c3, c4, blocks), _stage(2 * c4, c5, blocks)])
        self.out_convs = nn.ModuleList(ConvNormSiLU(count, channels, 3) for count in in_channels)

    def forward(self, features: list[Tensor]) -> tuple[Tensor, ...]:
        """C3, C4, C5 at strides 8, 16 and 32 → P3, P4, P5, each (N, channels, h, w), at the same strides."""
        c3, c4, c5 = features
        reduced5 = self.reduce_layers[0](c5)
        reduced4 = self.reduce_layers[1](self.top_down_blocks[0](_join(_enlarge(reduced5, c4), c4)))
        merged3 = self.top_down_blocks[1](_join(_enlarge(reduced4, c3), c3))
        merged4 = self.bottom_up_blocks[0](_join(self.downsamples[0](merged3), reduced4))
        merged5 = self.bottom_up_blocks[1](_join(self.downsamples[1](merged4), reduced5))
        p3, p4, p5 = (conv(maps) for conv, maps in zip(self.out_convs, (merged3, merged4, merged5), strict=True))
        return p3, p4, p5


def _stage(in_channels: int, channels: int, blocks: int) -> CSPLayer:
    return CSPLayer(in_channels, channels, blocks, residual=False, attention=False)


def _enlarge(maps: Tensor, larger: Tensor) -> Tensor:
    return F.interpolate(maps, larger.shape[-2:], mode="nearest")


def _join(first: Tensor, second: Tensor) -> Tensor:
    return torch.cat([first, second], dim=1)

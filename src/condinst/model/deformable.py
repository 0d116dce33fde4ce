"""A 3×3 convolution that reads where it chooses (modulated deformable, arXiv 1811.11168)."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.ops import deform_conv2d

SIDE = 3
TAPS = SIDE * SIDE


class DeformableConv(nn.Module):
    """Takes the place, weights, stride and dilation of `conv`, a 3×3 convolution without bias.

    Of every output pixel `offset` tells how far (y, x) each tap moves, in pixels of the input, and, through a sigmoid,
    what share of it counts. It starts at zero: no tap moves and half of each counts.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight = conv.weight
        self.stride, self.dilation = conv.stride[0], conv.dilation[0]
        self.offset = nn.Conv2d(conv.in_channels, 3 * TAPS, SIDE, self.stride, self.dilation, self.dilation)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) → (N, out, ⌈H / stride⌉, ⌈W / stride⌉). Channels of `offset`: y, x of tap 0, …, then shares."""
        # in the weight's precision: the operator mixes none, and autocast knows it on CUDA only
        said = self.offset(features).to(self.weight.dtype)
        shifts, shares = said.split((2 * TAPS, TAPS), dim=1)
        made: Tensor = deform_conv2d(
            features.to(self.weight.dtype),
            shifts,
            self.weight,
            stride=self.stride,
            padding=self.dilation,
            dilation=self.dilation,
            mask=shares.sigmoid(),
        )
        return made

"""A modulated deformable convolution (arXiv 1811.11168): it predicts the positions that it reads."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.ops import deform_conv2d


class DeformableConv(nn.Module):
    """Replaces `conv`, a 3×3 or 1×1 convolution without bias, and takes over its weights, stride and dilation.

    For each output pixel, the layer `offset` predicts how far (y, x) each of the taps moves, in pixels of the input,
    and a factor for the tap, as the logit of a sigmoid. `offset` starts with zeros: no tap moves, and each
    factor is 0.5.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight = conv.weight
        self.stride, self.dilation = conv.stride[0], conv.dilation[0]
        side = conv.kernel_size[0]
        self.taps, self.padding = side * side, self.dilation * (side // 2)
        self.offset = nn.Conv2d(
            conv.in_channels, 3 * self.taps, side, self.stride, self.padding, dilation=self.dilation
        )
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) → (N, out, ⌈H / stride⌉, ⌈W / stride⌉).

        The channels of `offset` are y and x of tap 0, y and x of tap 1, …, then the factors.
        """
        # the operator needs inputs of one dtype, and autocast supports it on CUDA only
        said = self.offset(features).to(self.weight.dtype)
        shifts, shares = said.split((2 * self.taps, self.taps), dim=1)
        made: Tensor = deform_conv2d(
            features.to(self.weight.dtype),
            shifts,
            self.weight,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            mask=shares.sigmoid(),
        )
        return made

"""A deformable convolution (arXiv 1703.06211), modulated (arXiv 1811.11168) or not."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.ops import deform_conv2d


class DeformableConv(nn.Module):
    """Replaces `conv`, a 3×3 or 1×1 convolution without bias, and takes over its weights, stride and dilation.

    For each output pixel, the layer `offset` predicts how far (y, x) each of the taps moves, in pixels of the input,
    and a factor for the tap, as the logit of a sigmoid. `offset` starts with zeros: no tap moves, and each
    factor is 0.5. modulated: whether there are such factors.
    """

    def __init__(self, conv: nn.Conv2d, modulated: bool = True) -> None:
        super().__init__()
        self.weight = conv.weight
        self.stride, self.dilation = conv.stride[0], conv.dilation[0]
        side = conv.kernel_size[0]
        self.taps, self.padding = side * side, self.dilation * (side // 2)
        self.modulated = modulated
        numbers = (3 if modulated else 2) * self.taps
        self.offset = nn.Conv2d(conv.in_channels, numbers, side, self.stride, self.padding, self.dilation)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) → (N, out, ⌈H / stride⌉, ⌈W / stride⌉).

        The channels of `offset` are y and x of tap 0, y and x of tap 1, …, then the factors, if any.
        """
        # the operator needs inputs of one dtype, and autocast supports it on CUDA only
        said = self.offset(features).to(self.weight.dtype)
        shifts, shares = said[:, : 2 * self.taps], said[:, 2 * self.taps :]
        made: Tensor = deform_conv2d(
            features.to(self.weight.dtype),
            shifts,
            self.weight,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            mask=shares.sigmoid() if self.modulated else None,
        )
        return made

"""Convolutions with TensorFlow's "same" padding as plain convolutions."""

from __future__ import annotations

import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from torch import nn


def plain_same_conv(conv: Conv2dSame) -> nn.Conv2d | None:
    """A plain convolution with the function of `conv` on maps whose sides are multiples of the stride, or None.

    "same" padding adds kernel − stride rows and columns, and an odd one of them below and at the right. A zero row and
    column in the kernel have the same effect with equal padding on all sides. So nothing depends on the size of the
    map, and no map is copied. None: a dilation or a stride that the function does not support.
    """
    rows, columns = ((size - stride) for size, stride in zip(conv.kernel_size, conv.stride, strict=True))
    if max(conv.dilation) > 1 or min(rows, columns) < 0:
        return None
    stride = conv.stride[0], conv.stride[1]
    padding = (rows + 1) // 2, (columns + 1) // 2
    weight = F.pad(conv.weight.detach(), (columns % 2, 0, rows % 2, 0))
    plain = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        (weight.shape[2], weight.shape[3]),
        stride,
        padding,
        groups=conv.groups,
        bias=conv.bias is not None,
        device=weight.device,
        dtype=weight.dtype,
    )
    plain.weight = nn.Parameter(weight, requires_grad=False)
    if conv.bias is not None:
        plain.bias = nn.Parameter(conv.bias.detach(), requires_grad=False)
    return plain

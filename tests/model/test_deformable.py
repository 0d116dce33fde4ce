"""The deformable convolution against the formula of arXiv 1811.11168, one output pixel at a time."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condinst.model.backbones.deformable import DeformableConv


def make(stride: int, dilation: int = 1, groups: int = 1) -> tuple[nn.Conv2d, DeformableConv]:
    """A plain convolution and the deformable one in its place, in float64."""
    plain = nn.Conv2d(4, 6, 3, stride, dilation, dilation, groups, bias=False).double()
    return plain, DeformableConv(plain).double()


def sample(image: Tensor, y: float, x: float) -> Tensor:
    """(C, H, W) → (C,): bilinear at pixel (y, x), zero outside."""
    total = torch.zeros(len(image), dtype=image.dtype)
    for row, column in product((math.floor(y), math.floor(y) + 1), (math.floor(x), math.floor(x) + 1)):
        if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
            total += (1 - abs(y - row)) * (1 - abs(x - column)) * image[:, row, column]
    return total


def slow(image: Tensor, said: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    """(C, H, W) and what the offset convolution said of each output pixel (27, h, w) → (out, h, w)."""
    made = torch.zeros(len(weight), *said.shape[1:], dtype=image.dtype)
    for i, j, tap in product(range(said.shape[1]), range(said.shape[2]), range(9)):
        y = stride * i + dilation * (tap // 3 - 1) + float(said[2 * tap, i, j])
        x = stride * j + dilation * (tap % 3 - 1) + float(said[2 * tap + 1, i, j])
        share = 1 / (1 + math.exp(-float(said[18 + tap, i, j])))
        made[:, i, j] += share * (weight[:, :, tap // 3, tap % 3] @ sample(image, y, x))
    return made


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2)])
@torch.no_grad()
def test_formula(stride: int, dilation: int) -> None:
    torch.manual_seed(0)
    _, conv = make(stride, dilation)
    nn.init.normal_(conv.offset.weight, std=0.3)
    nn.init.normal_(conv.offset.bias, std=1.0)
    images = torch.randn(2, 4, 7, 6, dtype=torch.float64)
    said = F.conv2d(images, conv.offset.weight, conv.offset.bias, stride, dilation, dilation)
    assert said[:, :18].abs().max() > 2  # beyond the neighbours, and out of the image
    expected = torch.stack(
        [slow(image, one, conv.weight, stride, dilation) for image, one in zip(images, said, strict=True)]
    )
    torch.testing.assert_close(conv(images), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("stride", "dilation", "groups"), [(1, 1, 1), (2, 1, 1), (1, 2, 1), (2, 1, 2)])
@torch.no_grad()
def test_at_the_start_it_is_half_the_plain_convolution(stride: int, dilation: int, groups: int) -> None:
    plain, conv = make(stride, dilation, groups)
    images = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    torch.testing.assert_close(conv(images), 0.5 * plain(images))


def test_names_and_gradients() -> None:
    plain, conv = make(1)
    assert {name: tuple(p.shape) for name, p in conv.named_parameters()} == {
        "weight": (6, 4, 3, 3),
        "offset.weight": (27, 4, 3, 3),
        "offset.bias": (27,),
    }
    assert conv.weight is plain.weight
    conv(torch.randn(1, 4, 5, 5, dtype=torch.float64)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in conv.parameters())
    assert conv.offset.bias is not None
    assert conv.offset.bias.grad is not None
    assert (conv.offset.bias.grad != 0).all()


@torch.no_grad()
def test_memory_order_and_lower_precision() -> None:
    conv = DeformableConv(nn.Conv2d(4, 6, 3, padding=1, bias=False))
    nn.init.normal_(conv.offset.weight, std=0.3)
    images = torch.randn(1, 4, 8, 8)
    expected = conv(images)
    torch.testing.assert_close(conv(images.contiguous(memory_format=torch.channels_last)), expected)
    with torch.autocast("cpu", torch.bfloat16):
        found = conv(images)
    assert float((found - expected).norm() / expected.norm()) < 0.05

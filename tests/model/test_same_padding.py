"""Convolutions with "same" padding as plain convolutions, against timm's own layer."""

from __future__ import annotations

import itertools

import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame

from condinst.model.backbones.same_padding import plain_same_conv


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), *itertools.product((3, 4, 5, 7, (3, 5)), (1, 2))])
def test_a_plain_convolution_computes_the_same(kernel: int | tuple[int, int], stride: int, groups: int) -> None:
    """For maps whose sides are multiples of the stride, down to maps smaller than the kernel."""
    conv = Conv2dSame(4, 8, kernel, stride=stride, groups=groups, bias=groups == 1).double()  # type: ignore[arg-type]
    plain = plain_same_conv(conv)
    assert plain is not None
    assert type(plain) is torch.nn.Conv2d
    for height, width in ((2, 2), (4, 10), (16, 6), (32, 40)):
        maps = torch.randn(2, 4, height, width, dtype=torch.float64)
        expected = conv(maps)
        assert expected.shape[2:] == (height // stride, width // stride)
        torch.testing.assert_close(plain(maps), expected, rtol=0, atol=1e-12)


def test_other_layers_have_no_plain_form() -> None:
    assert plain_same_conv(Conv2dSame(3, 3, 3, dilation=2)) is None
    assert plain_same_conv(Conv2dSame(3, 3, 1, stride=2)) is None


def test_the_layer_itself_does_not_change() -> None:
    conv = Conv2dSame(3, 8, 3, stride=2)
    before = conv.weight.detach().clone()
    plain = plain_same_conv(conv)
    assert plain is not None
    assert torch.equal(conv.weight, before)
    assert conv.weight.requires_grad
    assert not any(number.requires_grad for number in plain.parameters())

"""Strided depthwise convolutions leave autocast, and nothing else changes."""

import copy

import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import nn

from condinst.engine.wide_convs import widen_strided_depthwise


def make(kind: type[nn.Conv2d]) -> nn.Sequential:
    torch.manual_seed(0)
    strided = kind(8, 8, 3, stride=2, padding=0 if kind is Conv2dSame else 1, groups=8, bias=False)
    return nn.Sequential(nn.Conv2d(3, 8, 1), strided, nn.Conv2d(8, 4, 1))


def gradients(model: nn.Module, images: torch.Tensor, narrow: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The output and the gradient of the strided weight."""
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
        output = model(images)
    output.float().square().sum().backward()
    grad = model.get_parameter("1.weight").grad
    assert grad is not None
    return output.detach(), grad.clone()


@pytest.mark.parametrize("kind", [nn.Conv2d, Conv2dSame])
def test_float32_inside_and_the_same_type_outside(kind: type[nn.Conv2d]) -> None:
    plain, wide = make(kind), make(kind)
    widen_strided_depthwise(wide)
    images = torch.randn(2, 3, 9, 12)
    seen: list[torch.dtype] = []
    wide[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    output, grad = gradients(wide, images, narrow=True)
    assert seen == [torch.float32]
    assert output.dtype == torch.bfloat16
    assert {type(part) for part in wide} == {type(part) for part in plain}
    assert list(wide.state_dict()) == list(plain.state_dict())
    exact = gradients(plain, images, narrow=False)[1]
    error = (grad - exact).norm() / exact.norm()
    assert error < 0.02  # two roundings to 8 bits before and after the layer


def test_outside_of_autocast_nothing_changes() -> None:
    plain, wide = make(nn.Conv2d), make(nn.Conv2d)
    widen_strided_depthwise(wide)
    images = torch.randn(2, 3, 9, 12)
    for one, other in zip(gradients(plain, images, False), gradients(copy.deepcopy(wide), images, False), strict=True):
        assert torch.equal(one, other)


def test_autocast_is_back_after_an_error() -> None:
    wide = make(nn.Conv2d)
    widen_strided_depthwise(wide)
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(RuntimeError, match="channels"):
            wide[1](torch.randn(1, 5, 8, 8))
        assert torch.is_autocast_enabled("cpu")
        assert wide(torch.randn(1, 3, 8, 8)).dtype == torch.bfloat16


def test_only_strided_depthwise_convolutions() -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 3, stride=2), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 3, 2, groups=8))
    widen_strided_depthwise(model)
    assert [bool(part._forward_pre_hooks) for part in model] == [False, False, True]

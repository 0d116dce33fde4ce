"""The FCOS head: shapes, the layers on each tower, scales, initial values."""

import math

import pytest
import torch
from torch import nn

from condinst.model.heads.fcos_head import FCOSHead
from condinst.settings.model import HeadConfig
from condinst.structures import HeadOutput

SIZES = [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]


def make(channels: int = 16, convs: int = 2, classes: int = 3) -> FCOSHead:
    torch.manual_seed(0)
    return FCOSHead(8, HeadConfig(channels=channels, convs=convs), classes, 169)


def run(head: FCOSHead, images: int = 2) -> HeadOutput:
    torch.manual_seed(1)
    output: HeadOutput = head(tuple(torch.randn(images, 8, *size) for size in SIZES))
    return output


@pytest.mark.parametrize(("channels", "convs", "classes"), [(16, 2, 3), (16, 0, 1), (1, 1, 2), (24, 1, 1000)])
def test_shapes(channels: int, convs: int, classes: int) -> None:
    output = run(make(channels, convs, classes))
    for levels, count in zip(output, (classes, 4, 1, 169), strict=True):
        assert [tuple(level.shape) for level in levels] == [(2, count, *size) for size in SIZES]
        assert all(level.isfinite().all() for level in levels)


def test_first_values() -> None:
    """Prior 0.01 for every class; weights normal with deviation 0.01; other biases 0."""
    head = FCOSHead(64, HeadConfig(channels=64, convs=1), 3, 169)
    assert head.class_logits.bias.tolist() == pytest.approx([-math.log(99)] * 3)
    for conv in (m for m in head.modules() if isinstance(m, nn.Conv2d)):
        if conv.weight.numel() > 5000:
            assert conv.weight.std().item() == pytest.approx(0.01, rel=0.05)
        if conv is not head.class_logits:
            assert conv.bias is not None
            assert not conv.bias.any()
    assert head.scales.tolist() == [1] * 5


def test_distances_before_training() -> None:
    """With a prior every location sees its box, and none is lost to the ReLU."""
    torch.manual_seed(0)
    pyramid = tuple(torch.randn(1, 8, *size) for size in SIZES)
    heads = (FCOSHead(8, HeadConfig(channels=16, convs=1, distance_prior=prior), 3, 169) for prior in (0, 2))
    plain, primed = (head(pyramid).distances_in_strides for head in heads)
    assert (torch.cat([level.flatten() for level in plain]) == 0).float().mean() > 0.25
    torch.testing.assert_close(torch.cat([level.flatten() for level in primed]).mean().item(), 2.0, rtol=0.05, atol=0)
    assert all((level > 1).all() for level in primed)


def test_deviation_of_the_towers() -> None:
    """It is theirs alone, and what they say does not depend on it: a norm follows each of their layers."""
    heads = []
    for deviation in (0.01, 0.04):
        torch.manual_seed(0)
        heads.append(FCOSHead(64, HeadConfig(channels=64, convs=2, tower_std=deviation), 3, 169))
    plain, wide = heads
    for name, weight in plain.named_parameters():
        factor = 4.0 if "tower" in name and weight.ndim == 4 else 1.0
        torch.testing.assert_close(wide.get_parameter(name), factor * weight)
    features = torch.randn(1, 64, 8, 8)
    torch.testing.assert_close(wide.box_tower(features), plain.box_tower(features), rtol=1e-2, atol=1e-2)


def test_scales_come_before_the_relu() -> None:
    """distances = relu(scale · conv): a negative scale turns the map over instead of clearing it."""
    head = make()
    nn.init.normal_(head.distances.weight)
    plain = run(head).distances_in_strides
    with torch.no_grad():
        head.scales.copy_(torch.tensor([1.0, 2.0, -1.0, 0.5, 1.0]))
    scaled = run(head).distances_in_strides
    assert torch.allclose(scaled[1], 2 * plain[1], rtol=1e-5)
    assert all((level >= 0).all() for level in scaled)
    assert not (plain[2] * scaled[2]).any()
    assert scaled[2].any()


def test_towers_are_shared_over_the_levels() -> None:
    torch.manual_seed(2)
    same = torch.randn(1, 8, 4, 4)
    output = make()((same,) * 5)
    for levels in output:
        assert all(torch.equal(level, levels[0]) for level in levels)


def test_the_controller_and_the_quality_sit_on_the_box_tower() -> None:
    head = make()
    before = run(head)
    with torch.no_grad():
        for parameter in head.class_tower.parameters():
            parameter.add_(torch.randn_like(parameter))
    after = run(head)
    for name in ("distances_in_strides", "centerness_logits", "filters"):
        assert torch.equal(getattr(before, name)[0], getattr(after, name)[0])
    assert not torch.equal(before.class_logits[0], after.class_logits[0])


def test_published_groups() -> None:
    groups = [m for m in FCOSHead(256, HeadConfig(), 80, 169).modules() if isinstance(m, nn.GroupNorm)]
    assert len(groups) == 8
    assert {group.num_groups for group in groups} == {32}


@pytest.mark.parametrize("channels", [2, 6, 32, 48, 96, 128])
def test_every_group_has_two_channels(channels: int) -> None:
    """A group of one channel of one pixel, P7 of a small picture, would always be normalised to its bias."""
    for group in (m for m in make(channels).modules() if isinstance(m, nn.GroupNorm)):
        assert channels // group.num_groups >= 2

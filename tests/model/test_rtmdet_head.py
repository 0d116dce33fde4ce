"""The head of RTMDet-Ins and its towers, and its mask features."""

from __future__ import annotations

import math
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condinst.model.heads.level_towers import SharedTower
from condinst.model.heads.mask_feature_module import MaskFeatureModule
from condinst.model.heads.rtmdet_head import RTMDetHead
from condinst.settings.model import HeadConfig

SIZES = ((8, 12), (4, 6), (2, 3))


def pyramid(channels: int = 6) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(2, channels, *size, generator=generator) for size in SIZES)


def make(convs: int = 2, separate: bool = False) -> RTMDetHead:
    torch.manual_seed(0)
    config = HeadConfig(convs=convs, channels=10, prior=0.02, distance_prior=1, separate_box_tower=separate)
    return RTMDetHead(6, config, 3, 169)


@pytest.mark.parametrize("convs", [0, 1, 2, 3])
@pytest.mark.parametrize("separate", [False, True])
def test_shapes_and_first_values(convs: int, separate: bool) -> None:
    output = make(convs, separate)(pyramid())
    for levels, channels in zip(
        (output.class_logits, output.distances_in_strides, output.filters), (3, 4, 169), strict=True
    ):
        assert [tuple(level.shape) for level in levels] == [(2, channels, *size) for size in SIZES]
    assert output.centerness_logits == ()
    for logits, distances in zip(output.class_logits, output.distances_in_strides, strict=True):
        assert (logits.sigmoid() - 0.02).abs().max() < 0.005
        assert (distances - 1).abs().max() < 0.2


def test_first_weights() -> None:
    for module in [make(), MaskFeatureModule(32, 32, 4, 8)]:
        for name, part in module.named_modules():
            if isinstance(part, nn.Conv2d):
                assert float(part.weight.detach().std()) == pytest.approx(0.01, rel=0.4), name
            elif isinstance(part, nn.BatchNorm2d):
                assert part.eps == 1e-5
    head = make()
    assert all(conv.bias.tolist() == pytest.approx([-math.log(49)] * 3) for conv in head.class_logits)
    assert all(conv.bias.tolist() == [1] * 4 for conv in head.distances)
    assert not any(conv.bias.any() for conv in head.controller)


def count_gradients(head: RTMDetHead, part: str) -> set[str]:
    """The towers that an output depends on."""
    head.zero_grad()
    sum(level.sum() for level in getattr(head(pyramid()), part)).backward()
    return {name.split(".")[0] for name, p in head.named_parameters() if p.grad is not None and "tower" in name}


def test_which_tower_feeds_which_output() -> None:
    assert count_gradients(make(), "class_logits") == {"class_tower"}
    assert count_gradients(make(), "distances_in_strides") == {"class_tower"}
    assert count_gradients(make(), "filters") == {"controller_tower"}
    assert count_gradients(make(separate=True), "distances_in_strides") == {"box_tower"}


@pytest.mark.parametrize("separate", [False, True])
def test_one_run_moves_the_statistics_as_far_as_the_published_runs(separate: bool) -> None:
    """Without a separate box tower, the published training runs the tower twice, each time with momentum 0.1."""
    head = make(separate=separate).train()
    twice = deepcopy(head.class_tower)
    for module in twice.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
    head(pyramid())
    for _ in range(1 if separate else 2):
        twice(pyramid())
    mine, theirs = dict(head.class_tower.named_buffers()), dict(twice.named_buffers())
    moved = [name for name in mine if "running" in name]
    assert len(moved) == 3 * 2 * 2
    for name in moved:
        torch.testing.assert_close(mine[name], theirs[name], rtol=1e-6, atol=1e-7)


@torch.no_grad()
def test_a_shared_tower_and_its_copies_compute_the_same() -> None:
    torch.manual_seed(0)
    tower = SharedTower(6, 10, 2, 3, 0.1).eval()
    for module in tower.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -1, 1)  # type: ignore[arg-type]
            nn.init.normal_(module.weight)
    copies = tower.unshared()
    assert not copies.training
    maps = pyramid()
    answers = tower(maps)
    assert all(torch.equal(one, other) for one, other in zip(answers, copies(maps), strict=True))
    for level, (answer, norms) in enumerate(zip(answers, tower.norms, strict=True)):
        expected = maps[level]
        for conv, norm in zip(tower.convs, norms, strict=True):  # type: ignore[call-overload]
            expected = F.silu(norm(F.conv2d(expected, conv.weight, padding=1)))
        assert torch.equal(answer, expected)
    storages = {tensor.untyped_storage().data_ptr() for tensor in copies.state_dict().values()}
    assert len(storages) == len(copies.state_dict())


@torch.no_grad()
def test_mask_features_read_all_levels_at_the_size_of_the_first() -> None:
    torch.manual_seed(0)
    module = MaskFeatureModule(6, 10, 0, 8).eval()
    p3, p4, p5 = pyramid()
    enlarged = [F.interpolate(maps, scale_factor=factor, mode="bilinear") for maps, factor in ((p4, 2), (p5, 4))]
    expected = module.features(module.fusion(torch.cat([p3, *enlarged], 1)))
    found = module((p3, p4, p5))
    assert found.shape == (2, 8, 8, 12)
    torch.testing.assert_close(found, expected)

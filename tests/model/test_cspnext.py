"""CSPNeXt as a backbone: shapes, settings that apply to it, settings that do not."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condinst.errors import ModelError, UsageError
from condinst.model.backbones.backbone import Backbone
from condinst.model.backbones.cspnext import SIZES, CSPNeXt
from condinst.model.backbones.cspnext_blocks import Block, ChannelAttention, CSPLayer, SpatialPyramidPooling
from condinst.model.backbones.frozen_norm import FrozenNorm
from condinst.settings.model import BackboneConfig


def make(**settings: object) -> Backbone:
    torch.manual_seed(0)
    given = {"name": "cspnext_tiny", "norm": "batch", "frozen_stages": 0}
    return Backbone(BackboneConfig.model_validate(given | settings))


def norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [child for child in module.modules() if isinstance(child, nn.BatchNorm2d)]


@torch.no_grad()
def test_maps_of_three_strides() -> None:
    backbone = make().eval()
    assert backbone.channels == (96, 192, 384)
    maps = backbone(torch.randn(2, 3, 64, 96))
    assert [tuple(one.shape) for one in maps] == [(2, 96, 8, 12), (2, 192, 4, 6), (2, 384, 2, 3)]


@pytest.mark.parametrize(
    ("name", "channels", "blocks"),
    [
        ("cspnext_tiny", (24, 48, 96, 192, 384), [1, 1, 1, 1]),
        ("cspnext_s", (32, 64, 128, 256, 512), [1, 2, 2, 1]),
        ("cspnext_m", (48, 96, 192, 384, 768), [2, 4, 4, 2]),
        ("cspnext_l", (64, 128, 256, 512, 1024), [3, 6, 6, 3]),
        ("cspnext_x", (80, 160, 320, 640, 1280), [4, 8, 8, 4]),
    ],
)
def test_sizes(name: str, channels: tuple[int, ...], blocks: list[int]) -> None:
    with torch.device("meta"):
        body = CSPNeXt(SIZES[name])
    stages = (body.stage1, body.stage2, body.stage3, body.stage4)
    assert body.stem[0].conv.out_channels == channels[0] // 2
    assert [part[-1].final_conv.conv.out_channels for part in stages] == list(channels[1:])
    assert [sum(isinstance(child, Block) for child in part.modules()) for part in stages] == blocks
    assert [child.residual for child in body.stage4.modules() if isinstance(child, Block)] == [False] * blocks[-1]


@torch.no_grad()
def test_pooling_joins_maxima_of_windows_of_5_9_and_13() -> None:
    torch.manual_seed(0)
    layer = SpatialPyramidPooling(8).eval()
    maps = torch.randn(2, 8, 15, 17)
    half = layer.conv1(maps)
    parts = [half, *(F.max_pool2d(half, size, stride=1, padding=size // 2) for size in (5, 9, 13))]
    assert torch.equal(layer(maps), layer.conv2(torch.cat(parts, 1)))


@torch.no_grad()
def test_attention_by_hand() -> None:
    layer = ChannelAttention(2)
    layer.fc.weight.copy_(torch.tensor([[1.0, 2.0], [0.0, -10.0]])[:, :, None, None])
    layer.fc.bias.copy_(torch.tensor([0.5, 0.0]))  # type: ignore[union-attr]
    maps = torch.tensor([[[[0.0, 2.0]], [[1.0, 1.0]]]])  # means 1 and 1
    expected = torch.tensor([[[[0.0, 2 * 6.0 / 6]], [[0.0, 0.0]]]])  # (3.5 + 3) / 6 is cut to 1, (−10 + 3) / 6 to 0
    torch.testing.assert_close(layer(maps), expected)
    layer.fc.weight.zero_()
    torch.testing.assert_close(layer(maps)[0, 0], maps[0, 0] * (0.5 + 3) / 6)


@torch.no_grad()
def test_the_half_that_passes_the_blocks_comes_first() -> None:
    torch.manual_seed(0)
    layer = CSPLayer(6, 8, 2, residual=True, attention=False).eval()
    maps = torch.randn(1, 6, 5, 5)
    main: Tensor = layer.main_conv(maps)
    for block in layer.blocks:
        main = main + block.conv2(block.conv1(main))
    expected = layer.final_conv(torch.cat([main, layer.short_conv(maps)], 1))
    torch.testing.assert_close(layer(maps), expected)


def test_first_weights() -> None:
    for name, module in make().named_modules():
        if isinstance(module, nn.Conv2d):
            bound = module.weight[0].numel() ** -0.5
            assert 0.9 * bound < float(module.weight.detach().abs().max()) <= bound, name
            assert module.bias is None or not module.bias.any()
            spread = float(module.weight.detach().std())
            assert spread == pytest.approx(bound / 3**0.5, rel=0.2), name
        elif isinstance(module, nn.BatchNorm2d):
            assert (module.eps, module.momentum) == (1e-5, 0.1)


@pytest.mark.parametrize(("norm", "learns", "moves"), [("frozen", 0, 0), ("affine", 1, 0), ("batch", 1, 1)])
def test_norms(norm: str, learns: bool, moves: bool) -> None:
    backbone = make(norm=norm).train()
    before = {name: value.clone() for name, value in backbone.named_buffers()}
    sum(maps.square().mean() for maps in backbone(torch.randn(2, 3, 64, 64))).backward()
    assert all((p.grad is not None) == bool(learns) for one in norms(backbone) for p in one.parameters())
    changed = [not torch.equal(value, before[name]) for name, value in backbone.named_buffers()]
    assert all(changed) if moves else not any(changed)
    assert all(isinstance(one, FrozenNorm) == (norm == "frozen") for one in norms(backbone))


@pytest.mark.parametrize(("stages", "still"), [(1, {"stem"}), (3, {"stem", "stage1", "stage2"})])
def test_frozen_stages(stages: int, still: set[str]) -> None:
    body = make(frozen_stages=stages).body
    learns = {name: [p.requires_grad for p in part.parameters()] for name, part in body.named_children()}
    assert {name for name, flags in learns.items() if not any(flags)} == still
    assert all(all(flags) for name, flags in learns.items() if name not in still)


def test_maps_made_again_give_the_same_gradients() -> None:
    backbone = make(norm="affine").train()
    images = torch.randn(2, 3, 64, 64)
    gradients = []
    for wanted in (False, True):
        backbone.set_recompute(wanted)
        assert backbone.body.grad_checkpointing == wanted
        backbone.zero_grad()
        sum(maps.square().mean() for maps in backbone(images)).backward()
        gradients.append([p.grad.clone() for p in backbone.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(list(backbone.parameters()))
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))
    assert not backbone.eval().body.grad_checkpointing


def test_refusals() -> None:
    with pytest.raises(ModelError, match="same_padding is for timm's models"):
        make(same_padding=True)
    with pytest.raises(ModelError, match="stride_in_1x1 is for ResNets"):
        make(stride_in_1x1=True)
    with pytest.raises(ModelError, match="deformable_interval is for ResNets"):
        make(deformable_interval=1)
    with pytest.raises(ModelError, match=r"cspnext_tiny': condinst downloads no ImageNet .*; set train\.init"):
        Backbone(BackboneConfig(name="cspnext_tiny"), pretrained=True)
    with pytest.raises(ModelError, match="similar: cspnext_s, ") as caught:
        make(name="cspnext-s")
    similar = str(caught.value).partition("similar: ")[2].split(", ")
    assert len(set(similar)) == len(similar) == 3  # newer versions of timm have these names, too
    with pytest.raises(UsageError, match=r"train\.recompute: norm=batch"):
        make().set_recompute(True)

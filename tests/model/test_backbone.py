"""timm models as the backbone: strides, frozen parts, errors."""

from collections.abc import Iterable

import pytest
import timm
import torch
from timm.layers.norm import LayerNorm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from condinst.errors import ModelError
from condinst.model.backbones.backbone import Backbone
from condinst.settings.model import BackboneConfig

SMALL = {"name": "mobilenetv2_035", "frozen_stages": 0}


def make(**settings: object) -> Backbone:
    return Backbone(BackboneConfig.model_validate(SMALL | settings))


def awake(backbone: Backbone) -> Backbone:
    """timm starts the last norm of a bottleneck at zero, so that its convolutions say nothing; here they do."""
    for name, weight in backbone.named_parameters():
        if name.endswith("bn3.weight"):
            nn.init.constant_(weight, 0.3)
    return backbone


def norms(module: nn.Module) -> list[_BatchNorm]:
    return [child for child in module.modules() if isinstance(child, _BatchNorm)]


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet18", (128, 256, 512)),
        ("mobilenetv2_035", (16, 32, 112)),
        ("convnext_atto", (80, 160, 320)),  # has no map at stride 2
    ],
)
@torch.no_grad()
def test_strides_and_channels(name: str, channels: tuple[int, ...]) -> None:
    backbone = make(name=name).eval()
    assert backbone.channels == channels
    maps = backbone(torch.randn(2, 3, 64, 96))
    assert [tuple(m.shape) for m in maps] == [
        (2, c, 64 // s, 96 // s) for c, s in zip(channels, (8, 16, 32), strict=True)
    ]
    assert not any(module.weight.isnan().any() for module in backbone.modules() if isinstance(module, LayerNorm))


@torch.no_grad()
def test_same_padding_moves_the_window() -> None:
    """Symmetric padding pads an even side left and right, TensorFlow's right only: maps differ, sizes do not."""
    images = torch.randn(1, 3, 64, 64)
    torch.manual_seed(0)
    plain, same = make().eval(), make(same_padding=True).eval()
    same.load_state_dict(plain.state_dict())
    for one, other in zip(plain(images), same(images), strict=True):
        assert one.shape == other.shape
        assert not torch.allclose(one, other)


@pytest.mark.parametrize(
    ("norm", "learns", "moves"), [("frozen", False, False), ("affine", True, False), ("batch", True, True)]
)
def test_norms(norm: str, learns: bool, moves: bool) -> None:
    """Whether scales learn and whether statistics follow the batches, also after the model is put to train."""
    backbone = make(norm=norm)
    backbone.eval()
    backbone.train()
    layers = norms(backbone)
    assert len(layers) > 20
    assert all(layer.weight.requires_grad == learns and layer.bias.requires_grad == learns for layer in layers)
    before = [layer.running_mean.clone() for layer in layers if layer.running_mean is not None]
    backbone(torch.randn(2, 3, 64, 64) + 3)
    after = [layer.running_mean for layer in layers if layer.running_mean is not None]
    assert any(not torch.equal(one, other) for one, other in zip(before, after, strict=True)) == moves
    assert all(layer.training == moves for layer in layers)
    assert not any(layer.training for layer in norms(backbone.eval()))


def learning(backbone: Backbone) -> set[str]:
    """The body's children that have something to learn."""
    return {name.split(".")[0] for name, p in backbone.body.named_parameters() if p.requires_grad}


def test_frozen_stages() -> None:
    """As published: the stem and the first stage of a ResNet."""
    everything = {"conv1", "layer1", "layer2", "layer3", "layer4"}
    assert learning(make(name="resnet18")) == everything
    assert learning(make(name="resnet18", frozen_stages=1)) == everything - {"conv1"}
    assert learning(make(name="resnet18", frozen_stages=2)) == everything - {"conv1", "layer1"}
    frozen = make(name="resnet18", frozen_stages=2, norm="affine")
    assert not any(p.requires_grad for p in frozen.body.layer1.parameters())
    assert frozen.body.layer2[0].bn1.weight.requires_grad


def test_frozen_stages_of_another_network() -> None:
    total = sum(1 for _ in make(norm="affine").parameters())
    counts = [
        sum(p.requires_grad for p in make(norm="affine", frozen_stages=stages).parameters()) for stages in (0, 1, 2, 3)
    ]
    assert counts[0] == total
    assert counts[0] > counts[1] > counts[2] > counts[3] > 0
    assert not make(norm="affine", frozen_stages=1).body.conv_stem.weight.requires_grad


def test_refusals() -> None:
    with pytest.raises(ModelError, match=r"timm has no such model; similar: .*resnet50"):
        make(name="resnet5000")
    with pytest.raises(ModelError, match=r"mambaout_femto.*channels last"):
        make(name="mambaout_femto")
    with pytest.raises(ModelError, match="vgg11"):
        make(name="vgg11", same_padding=True)  # an option the network does not know
    with pytest.raises(ModelError, match=r"resnet18.*stride_in_1x1"):
        make(name="resnet18", stride_in_1x1=True)
    with pytest.raises(ModelError, match=r"hrnet.*set frozen_stages to 0"):
        make(name="hrnet_w18_small", frozen_stages=1)
    for name in ("resnet18", "mobilenetv2_035", "hrnet_w18_small"):
        with pytest.raises(ModelError, match=rf"{name}.*deformable_interval"):
            make(name=name, deformable_interval=1)


def test_caffe_strides() -> None:
    plain, caffe = make(name="resnet50").body.layer2[0], make(name="resnet50", stride_in_1x1=True).body.layer2[0]
    assert (plain.conv1.stride, plain.conv2.stride) == ((1, 1), (2, 2))
    assert (caffe.conv1.stride, caffe.conv2.stride) == ((2, 2), (1, 1))


@pytest.mark.parametrize(
    ("name", "interval", "blocks"),
    [
        ("resnet50", 1, {2: range(4), 3: range(6), 4: range(3)}),
        ("resnet50", 2, {2: (0, 2), 3: (0, 2, 4), 4: (0, 2)}),
        ("resnet101", 3, {2: (0, 3), 3: (0, 3, 6, 9, 12, 15, 18, 21), 4: (0,)}),
    ],
)
def test_deformable_blocks(name: str, interval: int, blocks: dict[int, Iterable[int]]) -> None:
    """Every n-th block of the stages that make C3–C5, in timm's names."""
    with torch.device("meta"):
        names = make(name=name, deformable_interval=interval).body.state_dict()
    found = {key for key in names if ".offset." in key}
    expected = {f"layer{stage}.{block}.conv2.offset" for stage in blocks for block in blocks[stage]}
    assert found == {f"{name}.{what}" for name in expected for what in ("weight", "bias")}
    assert {key for key in names if key not in found} == set(timm.create_model(name, num_classes=0).state_dict())


@pytest.mark.parametrize("stride_in_1x1", [False, True])
@torch.no_grad()
def test_deformable_weights_twice_as_large_are_the_plain_network(stride_in_1x1: bool) -> None:
    """At the start every tap counts half and none moves, whichever convolution has the stride."""
    plain = awake(make(name="resnet50", stride_in_1x1=stride_in_1x1)).eval()
    deformable = make(name="resnet50", stride_in_1x1=stride_in_1x1, deformable_interval=1).eval()
    tensors = deformable.state_dict() | plain.state_dict()
    doubled = [name.replace("offset.bias", "weight") for name in tensors if name.endswith("offset.bias")]
    assert len(doubled) == 13
    tensors |= {name: tensors[name] * 2 for name in doubled}
    deformable.load_state_dict(tensors)
    images = torch.randn(1, 3, 64, 96)
    for one, other in zip(plain(images), deformable(images), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_deformable_networks_learn_and_freeze_as_others() -> None:
    backbone = awake(make(name="resnet50", deformable_interval=3, frozen_stages=2, norm="affine")).train()
    sum(level.square().mean() for level in backbone(torch.randn(1, 3, 64, 64))).backward()
    for name, parameter in backbone.body.named_parameters():
        frozen = name.startswith(("conv1", "bn1", "layer1"))
        assert (parameter.grad is None) == frozen, name
        assert frozen or parameter.grad.abs().sum() > 0, name
    offsets = make(name="resnet50", deformable_interval=1, frozen_stages=3).body.layer2[0].conv2.offset
    assert not any(parameter.requires_grad for parameter in offsets.parameters())


def test_the_licence_is_stated() -> None:
    assert "apache" in make(name="resnet18").licence.lower()

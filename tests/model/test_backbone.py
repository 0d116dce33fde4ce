"""timm as the backbone: strides, what is frozen, what is refused."""

import pytest
import torch
from timm.layers.norm import LayerNorm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from condinst.config import BackboneConfig
from condinst.errors import ModelError
from condinst.model.backbone import Backbone

SMALL = {"name": "mobilenetv2_035", "frozen_stages": 0}


def make(**settings: object) -> Backbone:
    return Backbone(BackboneConfig.model_validate(SMALL | settings))


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
    with pytest.raises(ModelError, match="vgg11"):
        make(name="vgg11", same_padding=True)  # an option the network does not know
    with pytest.raises(ModelError, match=r"resnet18.*stride_in_1x1"):
        make(name="resnet18", stride_in_1x1=True)
    with pytest.raises(ModelError, match=r"hrnet.*set frozen_stages to 0"):
        make(name="hrnet_w18_small", frozen_stages=1)


def test_caffe_strides() -> None:
    plain, caffe = make(name="resnet50").body.layer2[0], make(name="resnet50", stride_in_1x1=True).body.layer2[0]
    assert (plain.conv1.stride, plain.conv2.stride) == ((1, 1), (2, 2))
    assert (caffe.conv1.stride, caffe.conv2.stride) == ((2, 2), (1, 1))


def test_the_licence_is_stated() -> None:
    assert "apache" in make(name="resnet18").licence.lower()

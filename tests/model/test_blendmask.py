"""The networks of BlendMask and MEInst: shapes, first weights, switches of the head, and prediction."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from condinst.config import Config
from condinst.engine.averaging import moving_average
from condinst.errors import ModelError, UsageError
from condinst.inference.detect import detect
from condinst.inference.network import make_network
from condinst.methods.choose import build_network, method_of
from condinst.model.backbones.deformable import DeformableConv
from condinst.model.blendmask import BlendMask
from condinst.model.heads.fcos_head import FCOSHead
from condinst.model.heads.level_towers import SharedTower
from condinst.model.meinst import MEInst
from condinst.model.pyramids.fpn import FPN
from condinst.recipes import load_recipe
from condinst.settings.model import HeadConfig
from condinst.structures import HeadOutput, MaskCode, NetworkOutput
from condinst.weights.transfer import fill_from

SMALL = ["model.backbone.name=resnet18", "model.backbone.stride_in_1x1=false", "model.fpn_channels=32"]
RECIPES = {
    "blendmask-r50-1x": ("model.mask_branch.channels=16", "model.head.convs=1"),
    "blendmask-550-r50-3x": ("model.mask_branch.channels=16",),
    "blendmask-rt-r50-4x-bn-head-syncbn-shtw": ("model.mask_branch.channels=16",),
    "meinst-r50-1x": ("model.head.convs=2",),
    "meinst-r50-1x-none": ("model.head.convs=1",),
}


def make_config(recipe: str, classes: str = "[a,b,c]") -> Config:
    words = [*SMALL, "model.head.channels=32", f"model.classes={classes}", *RECIPES[recipe]]
    return load_recipe(recipe).with_overrides(words)


def build(recipe: str) -> BlendMask | MEInst:
    torch.manual_seed(0)
    model = build_network(make_config(recipe).model)
    assert isinstance(model, BlendMask | MEInst)
    return model


@pytest.mark.parametrize("recipe", RECIPES)
def test_shapes(recipe: str) -> None:
    model = build(recipe)
    levels, blended = len(model.config.geometry.strides), isinstance(model, BlendMask)
    assert levels == {"blendmask-550-r50-3x": 4, "blendmask-rt-r50-4x-bn-head-syncbn-shtw": 3}.get(recipe, 5)
    for training in (True, False):
        output = model.train(training)(torch.randn(2, 3, 64, 96))
        sizes = [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)][:levels]
        for maps, count in zip(output.head, (3, 4, 1, 784 if blended else 60), strict=True):
            assert [tuple(level.shape) for level in maps] == [(2, count, *size) for size in sizes]
        assert output.mask_features.shape == ((2, 4, 16, 24) if blended else (2, 0, 8, 12))
        wanted = (2, 4, 8, 12) if blended and training else None
        assert (output.semantic_logits is None) == (wanted is None)
        assert output.semantic_logits is None or output.semantic_logits.shape == wanted
        assert (output.code is None) == blended


def test_first_weights() -> None:
    model = build("meinst-r50-1x")
    head = model.head
    assert head.scales is not None
    assert head.scales.tolist() == [1] * 5
    assert head.class_logits.bias.tolist() == pytest.approx([-math.log(99)] * 3)
    for tower in (head.class_tower, head.box_tower, head.mask_tower):
        assert tower is not None
        layers = [layer for layer in tower if not isinstance(layer, nn.GroupNorm | nn.ReLU)]
        assert [type(layer) for layer in layers] == [nn.Conv2d, DeformableConv]
        last = layers[1]
        assert isinstance(last, DeformableConv)
        assert last.offset.weight.shape == (18, 32, 3, 3)
        assert last.offset.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert not last.offset.bias.any()  # type: ignore[union-attr]
        bound = math.sqrt(6 / (32 * 9))
        assert 0.99 * bound < last.weight.abs().max() <= bound
    blended = build("blendmask-r50-1x")
    assert isinstance(blended, BlendMask)
    assert blended.head.scales is None
    assert blended.head.controller.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert blended.semantic_head is not None
    layers = [layer for layer in blended.semantic_head.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in layers] == [16, 16, 4]
    for layer in (*layers, blended.mask_branch.features):
        bound = 1 / math.sqrt(layer.weight[0].numel())
        assert 0.8 * bound < layer.weight.abs().max() <= bound
    block = blended.mask_branch.refine[0][0]  # type: ignore[index]
    assert 0.99 * math.sqrt(3 / (32 * 9)) < block.weight.abs().max() <= math.sqrt(3 / (32 * 9))


def test_levels_of_the_pyramid() -> None:
    features = [torch.randn(1, count, 16 // 2**level, 16 // 2**level) for level, count in enumerate((3, 4, 5))]
    torch.manual_seed(0)
    whole = FPN((3, 4, 5), 6)
    for levels in (3, 4, 5):
        part = FPN((3, 4, 5), 6, levels)
        part.load_state_dict({name: tensor for name, tensor in whole.state_dict().items() if name in part.state_dict()})
        assert len(part.state_dict()) == 12 + 2 * (levels - 3)
        for one, other in zip(part(features), whole(features), strict=False):
            assert torch.equal(one, other)
        assert len(part(features)) == levels


def test_shared_convolutions_come_before_the_towers() -> None:
    pyramid = tuple(torch.randn(2, 8, size, size) for size in (8, 4, 2))
    for norms, kind in ((False, nn.Sequential), (True, SharedTower)):
        head = FCOSHead(8, HeadConfig(channels=16, convs=1, shared_convs=2, level_norms=norms), 3, 7, 3, scaled=False)
        assert isinstance(head.shared_tower, kind)
        output = head(pyramid)
        shared = head.shared_tower(pyramid) if norms else tuple(head.shared_tower(level) for level in pyramid)
        for level, maps in enumerate(shared):
            expected = head.distances(head.box_tower(maps)).relu()
            torch.testing.assert_close(output.distances_in_strides[level], expected)
            torch.testing.assert_close(output.filters[level], head.controller(head.box_tower(maps)))
    assert isinstance(head.shared_tower, SharedTower)
    assert len(head.shared_tower.norms) == 3
    assert head.shared_tower.convs[0].bias is not None


def test_a_plain_deformable_convolution() -> None:
    """Without movement it is the convolution that it replaces."""
    conv = nn.Conv2d(4, 6, 3, padding=1, bias=False)
    layer = DeformableConv(conv, modulated=False)
    maps = torch.randn(2, 4, 9, 7)
    torch.testing.assert_close(layer(maps), conv(maps), rtol=1e-5, atol=1e-6)
    assert layer.offset.out_channels == 18
    nn.init.constant_(layer.offset.bias[0::2], 1.0)  # type: ignore[index, arg-type]
    torch.testing.assert_close(layer(maps)[:, :, 1:-2], conv(maps)[:, :, 2:-1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("recipe", RECIPES)
def test_prediction(recipe: str) -> None:
    """Folded norms and a controller that is computed where instances are found change nothing."""
    model = build(recipe).eval()
    if isinstance(model, MEInst):
        model.mask_code.components.normal_()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -1, 1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]
    config = make_config(recipe).with_overrides(["detect.score_threshold=0.0001"])
    nn.init.normal_(model.head.class_logits.weight, std=0.3)
    nn.init.constant_(model.head.distances.bias, 2)  # type: ignore[arg-type]
    images, method = torch.randn(1, 3, 64, 96), method_of(config.model)
    network = make_network(model, "exact", torch.device("cpu"), 32)
    assert network.controller is not None
    with torch.inference_mode():
        pairs = []
        for output in (model(images), network(images)):
            (found,) = method.detect(output, config.model, config.detect, None)
            pairs.append((found, torch.cat(list(method.draw(output, 0, found, config.model)))))
    (one, squares), (other, more) = pairs
    assert len(one.scores) > 20
    assert torch.equal(one.labels, other.labels)
    torch.testing.assert_close(one.filters, other.filters, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(squares, more, rtol=1e-3, atol=1e-3)
    side = 56 if isinstance(model, BlendMask) else 28
    assert squares.shape == (len(one.scores), side, side)


def test_half_precision_leaves_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("meinst-r50-1x").eval()
    assert isinstance(model, MEInst)
    model.mask_code.components.normal_()
    monkeypatch.setattr("condinst.inference.network.half_type", lambda _: torch.bfloat16)
    network = make_network(model, "fast", torch.device("cpu"), 32)
    with torch.inference_mode():
        output = network(torch.randn(1, 3, 64, 64))
    assert output.head.class_logits[0].dtype == torch.bfloat16
    assert output.code is not None
    assert torch.equal(output.code.components, model.mask_code.components)


def candidates(passing: list[float], centers: list[float]) -> NetworkOutput:
    logits, centre = (torch.tensor(values).logit().reshape(1, 1, 1, -1) for values in (passing, centers))
    none = [torch.full((1, 1, 1, 1), -9.0) for _ in range(4)]
    sides = [torch.ones(1, 4, 1, maps.shape[-1]) * 0.1 for maps in (logits, *none)]
    head = HeadOutput((logits, *none), tuple(sides), (centre, *none), (logits, *none))
    return NetworkOutput(head, torch.zeros(1, 4, 2, 8), None)


def test_what_the_threshold_is_compared_with() -> None:
    """MEInst: the class alone. BlendMask: the product. Both rank by the product, and its root is the score."""
    output = candidates([0.3, 0.25, 0.9, 0.1], [0.1, 0.9, 0.5, 0.99])
    words = ["detect.score_threshold=0.2", "detect.candidates_per_level=2", "model.classes=[a]"]
    found = {}
    for recipe in ("blendmask-r50-1x", "meinst-r50-1x"):
        for most in (2, 100):
            config = make_config(recipe).with_overrides([*words, f"detect.candidates_per_level={most}"])
            (one,) = detect(output, config.model, config.detect)
            found[recipe, most] = [round(score**2, 4) for score in one.scores.tolist()]
    assert found["blendmask-r50-1x", 100] == found["blendmask-r50-1x", 2] == [0.45, 0.225]
    assert found["meinst-r50-1x", 100] == [0.45, 0.225, 0.03]
    assert found["meinst-r50-1x", 2] == [0.45, 0.225]


@pytest.mark.parametrize("recipe", ["blendmask-r50-1x", "meinst-r50-1x"])
def test_other_classes(recipe: str) -> None:
    """The rows of the classes move by name, and the background stays the first row of the semantic head."""
    first, second = (build_network(make_config(recipe, names).model) for names in ("[a,b,c]", "[c,x,a]"))
    state = {name: tensor.clone() for name, tensor in first.state_dict().items()}
    assert "kept classes: c, a" in fill_from(second, state, ("a", "b", "c"))
    after = second.state_dict()
    for name, shift in (("head.class_logits.weight", 0), ("semantic_head.logits.weight", 1)):
        if name in state:
            assert torch.equal(after[name][shift], state[name][shift + 2])
            assert torch.equal(after[name][shift + 2], state[name][shift])
            assert not torch.equal(after[name][shift + 1], state[name][shift + 1])
            assert torch.equal(after[name][:shift], state[name][:shift])
    if isinstance(first, MEInst):
        assert torch.equal(after["mask_code.means"], state["mask_code.means"])


def test_the_table_of_the_code() -> None:
    model = build("meinst-r50-1x")
    assert isinstance(model, MEInst)
    assert not model.mask_code.known
    code = MaskCode(torch.randn(60, 784), torch.rand(60), torch.randn(784))
    model.mask_code.set(code)
    assert model.mask_code.known
    assert all(torch.equal(own, given) for own, given in zip(model.mask_code(), code, strict=True))
    assert not [name for name, _ in model.named_parameters() if "mask_code" in name]
    average = moving_average(model, Config().train.model_copy(update={"ema_decay": 0.9}))
    for _ in range(3):
        average.update_parameters(model)
    kept: Tensor = average.module.mask_code.components
    torch.testing.assert_close(kept, code.components)


def test_settings_that_do_not_fit() -> None:
    def told(recipe: str, *words: str) -> str:
        with pytest.raises(UsageError) as caught:
            load_recipe(recipe).with_overrides(list(words))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    for recipe in ("blendmask-r50-1x", "meinst-r50-1x"):
        method = recipe.partition("-")[0]
        assert f"method {method} does not use mask_head" in told(recipe, "model.mask_head.depth=2")
        assert "needs detect.nms=box" in told(recipe, "detect.nms=mask")
        assert "needs detect.score_root=true" in told(recipe, "detect.score_root=false")
        assert "needs pyramid fpn" in told(recipe, "model.pyramid=bifpn")
        assert "needs targets.assigner=fcos" in told(recipe, "targets.assigner=dynamic")
        assert "0 coordinate_scales" in told(recipe, "model.coordinate_scales=[1,2,3,4,5]")
    assert "needs loss.mask=bce" in told("blendmask-r50-1x", "loss.mask=dice")
    assert "needs loss.mask=code or bce" in told("meinst-r50-1x", "loss.mask=dice")
    assert "needs loss.mask=dice or bce or both" in told("condinst-r50-1x", "loss.mask=code")
    assert "does not use semantic" in told("meinst-r50-1x", "model.semantic=true")
    assert "does not use head.deformable" in told("blendmask-r50-1x", "model.head.deformable=true")
    assert "does not use head.shared_convs" in told("condinst-r50-1x", "model.head.shared_convs=1")
    assert "does not use train.mask_code; leave it at" in told("condinst-r50-1x", "train.mask_code=x")
    assert "needs 3 or 4 or 5 size_ranges" in told("blendmask-r50-1x", "model.size_ranges=[[0,9]]")


def test_a_backbone_of_another_kind() -> None:
    with pytest.raises(ModelError, match="timm has no such model"):
        build_network(make_config("meinst-r50-1x").with_overrides(["model.backbone.name=none"]).model)

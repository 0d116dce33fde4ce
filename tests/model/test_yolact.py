"""The network of YOLACT: its first weights, the shapes of its output, and starting from another model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import condinst
from condinst.config import Config
from condinst.errors import ModelError
from condinst.hub import CondInst, Yolact
from condinst.inference.network import make_network
from condinst.model.pyramids.yolact_fpn import YolactFPN
from condinst.model.yolact import Yolact as Network
from condinst.recipes import load_recipe
from condinst.settings.model import ModelConfig
from condinst.weights.transfer import fill_from


def settings(*classes: str, **changes: Any) -> ModelConfig:
    values = load_recipe("yolact-r50").model.model_dump()
    values |= {"classes": classes, "fpn_channels": 24} | changes
    values["backbone"] |= {"name": "resnet18"}
    values["head"] |= {"channels": 16}
    values["mask_branch"] |= {"channels": 12, "features": 5}
    return ModelConfig.model_validate(values)


@pytest.fixture(scope="module")
def model() -> Network:
    torch.manual_seed(0)
    return Network(settings("a", "b"))


def test_first_weights() -> None:
    """Xavier uniform, but Kaiming normal for the tower of the head. No prior of the classes."""
    torch.manual_seed(0)
    network = Network(load_recipe("yolact-r50").model.model_copy(update={"classes": tuple(map(str, range(80)))}))
    for name, module in network.named_modules():
        if not isinstance(module, nn.Conv2d) or name.startswith("backbone"):
            continue
        assert module.bias is not None
        assert not module.bias.any()
        outputs, inputs, height, width = module.weight.shape
        if name.startswith("head.tower"):
            assert float(module.weight.detach().std()) == pytest.approx(
                math.sqrt(2 / (outputs * height * width)), rel=0.02
            )
            assert float(module.weight.detach().abs().max()) > 3 * float(module.weight.detach().std())
        else:
            bound = math.sqrt(6 / ((inputs + outputs) * height * width))
            assert 0.98 * bound < float(module.weight.detach().abs().max()) <= bound


@pytest.mark.parametrize(("size", "levels"), [((550, 550), [69, 35, 18, 9, 5]), ((96, 96), [12, 6, 3, 2, 1])])
def test_shapes(model: Network, size: tuple[int, int], levels: list[int]) -> None:
    model.train()
    with torch.no_grad():
        output = model(torch.randn(2, 3, *size))
    for maps, numbers in zip(output.head, (3, 4, 5), strict=True):
        assert [tuple(level.shape) for level in maps] == [(2, 3 * numbers, side, side) for side in levels]
    assert output.prototypes.shape == (2, 5, 2 * levels[0], 2 * levels[0])
    assert output.prototypes.min() >= 0
    assert output.semantic_logits.shape == (2, 2, levels[0], levels[0])
    assert output.size.tolist() == list(size)
    assert all(level.abs().max() < 1 for level in output.head.coefficients)
    assert model.eval()(torch.randn(1, 3, 64, 64)).semantic_logits is None


def test_pyramid() -> None:
    """In plain torch, layer by layer."""
    torch.manual_seed(1)
    fpn = YolactFPN((4, 6, 8), 10).eval()
    c3, c4, c5 = torch.randn(1, 4, 9, 7), torch.randn(1, 6, 5, 4), torch.randn(1, 8, 3, 2)

    def conv(layer: Any, maps: Tensor, stride: int = 1, padding: int = 1) -> Tensor:
        return F.conv2d(maps, layer.weight, layer.bias, stride, padding)

    def up(maps: Tensor, size: tuple[int, int]) -> Tensor:
        return F.interpolate(maps, size, mode="bilinear", align_corners=False)

    top = conv(fpn.laterals[2], c5, padding=0)
    middle = conv(fpn.laterals[1], c4, padding=0) + up(top, (5, 4))
    bottom = conv(fpn.laterals[0], c3, padding=0) + up(middle, (9, 7))
    p6 = conv(fpn.p6, c5, stride=2)
    merged = zip(fpn.outputs, (bottom, middle, top), strict=True)
    expected = [*(conv(layer, maps) for layer, maps in merged), p6, conv(fpn.p7, p6, stride=2)]
    for mine, theirs in zip(fpn([c3, c4, c5]), expected, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)
    assert (p6 < 0).any()  # no ReLU


def test_every_parameter_learns(model: Network) -> None:
    for norm in (part for part in model.modules() if isinstance(part, nn.BatchNorm2d)):
        nn.init.ones_(norm.weight)  # timm begins the last norm of a block with 0
    output = model.train()(torch.randn(2, 3, 96, 96))
    parts = [*(level for maps in output.head for level in maps), output.prototypes, output.semantic_logits]
    sum(part.square().sum() for part in parts).backward()
    still = [name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert still == []
    model.zero_grad()


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_the_network_for_prediction_computes_the_same(model: Network, mode: str) -> None:
    """Batch norms are folded."""
    images = torch.randn(2, 3, 110, 110)
    network = make_network(model.eval(), mode, torch.device("cpu"), 1)
    assert network.divisor == 1
    assert not any(isinstance(part, nn.BatchNorm2d) for part in network.module.modules())  # type: ignore[union-attr]
    with torch.inference_mode():
        mine, theirs = network(images), model(images)
    most = 1e-5 if network.dtype == torch.float32 else 0.1
    for one, other in zip(
        (mine.prototypes, *mine.head.class_logits), (theirs.prototypes, *theirs.head.class_logits), strict=True
    ):
        assert float((one.float() - other).norm() / other.norm()) < most


def test_starting_from_another_model() -> None:
    """Classes go by name, each with its three anchors; the background and all other rows are kept."""
    torch.manual_seed(2)
    first, second = Network(settings("cat", "dog", "cow")), Network(settings("cow", "bird", "cat", "fox"))
    before = {name: tensor.clone() for name, tensor in second.state_dict().items()}
    assert "except for the new classes bird, fox" in fill_from(second, first.state_dict(), ("cat", "dog", "cow"))
    old, new = first.state_dict(), second.state_dict()
    weight = "head.class_logits.weight"
    for anchor in range(3):
        theirs, mine, own = (state[weight].unflatten(0, (3, -1))[anchor] for state in (old, new, before))
        assert torch.equal(mine[[0, 2]], theirs[[2, 0]])
        assert torch.equal(mine[[1, 3]], own[[1, 3]])
        assert torch.equal(mine[4], theirs[3])  # the background
    weight = "semantic_head.weight"  # the pixels of class c are in channel c − 1
    assert torch.equal(new[weight][3], old[weight][1])  # cow
    assert torch.equal(new[weight][1], old[weight][2])  # cat
    assert torch.equal(new[weight][[0, 2]], before[weight][[0, 2]])  # bird and fox
    others = [name for name in old if not name.startswith(("head.class_logits", "semantic_head"))]
    assert all(torch.equal(new[name], old[name]) for name in others)


def test_saved_and_loaded(tmp_path: Path) -> None:
    assert condinst.Yolact is Yolact
    config = load_recipe("yolact-r50").model_copy(update={"model": settings("a", "b")})
    mine = Yolact(config).eval()
    mine.save_pretrained(tmp_path / "yolact")
    loaded = Yolact.from_pretrained(tmp_path / "yolact")
    images = torch.randn(1, 3, 96, 96)
    with torch.inference_mode():
        assert torch.equal(loaded(images).prototypes, mine(images).prototypes)
    card = (tmp_path / "yolact" / "README.md").read_text()
    assert "prototypes and coefficients (YOLACT, arXiv 1904.02689)" in card
    with pytest.raises(ModelError, match=r"a YOLACT, not a CondInst; use condinst.Yolact"):
        CondInst.from_pretrained(tmp_path / "yolact")
    with pytest.raises(ModelError, match="a CondInst, not a YOLACT"):
        Yolact(Config())

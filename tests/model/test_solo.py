"""The networks of the SOLO family: shapes, first weights, gradients, and masks of cells."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from condinst.methods.choose import build_network
from condinst.model.heads.solo.blocks import levels_of, with_coordinates
from condinst.model.heads.solo.output import FixedFilters, PredictedFilters, RowsAndColumns, SoloOutput
from condinst.model.solo import SoloNetwork
from condinst.settings.model import ModelConfig

METHODS = ("solo", "decoupled-solo", "solov2")
GRIDS = (6, 5, 4, 3, 2)
SIZES = [(64, 96), (64, 96), (32, 48), (16, 24), (16, 24)]  # of the mask maps of a picture of 256×384


def settings(method: str, **changes: Any) -> ModelConfig:
    values: dict[str, Any] = {
        "method": method,
        "classes": ["a", "b", "c"],
        "backbone": {"name": "resnet18", "norm": "affine"},
        "fpn_channels": 32,
        "head": {"convs": 2, "channels": 48},
        "size_ranges": [[1, 96], [48, 192], [96, 384], [192, 768], [384, 2048]],
        "coordinate_scales": [],
        "solo": {"grids": GRIDS},
    }
    if method == "solov2":
        values["mask_branch"] = {"channels": 32, "features": 24}
    values["solo"] |= changes
    return ModelConfig.model_validate(values)


def build(method: str, **changes: Any) -> SoloNetwork:
    torch.manual_seed(0)
    model = build_network(settings(method, **changes))
    assert isinstance(model, SoloNetwork)
    return model


@pytest.mark.parametrize("method", METHODS)
def test_shapes(method: str) -> None:
    output = build(method).eval()(torch.rand(2, 3, 256, 384))
    assert [tuple(level.shape) for level in output.class_logits] == [(2, 3, grid, grid) for grid in GRIDS]
    assert output.masks.size == (64, 96)
    for level, grid in enumerate(GRIDS):
        cells = torch.tensor([0, grid * grid - 1, 1])
        own = output.masks.probabilities(level, 1, cells)
        assert own.shape == (3, *(SIZES[level] if method != "solov2" else (64, 96)))
        assert output.masks.probabilities(level, 1, cells, (64, 96)).shape == (3, 64, 96)
        assert output.masks.probabilities(level, 0, cells[:0]).shape[0] == 0
        assert bool(((own >= 0) & (own <= 1)).all())


@pytest.mark.parametrize("method", METHODS)
def test_first_weights(method: str) -> None:
    """Of the towers and predictions 0.01, the logit of 1 % for classes and masks, and the last block's own."""
    torch.manual_seed(1)
    config = settings(method).model_copy(update={"fpn_channels": 256})
    head = config.head.model_copy(update={"channels": 256})
    branch = config.mask_branch.model_copy(update={"channels": 128, "features": 256})
    with_branch = {"mask_branch": branch} if method == "solov2" else {}
    model = build_network(config.model_copy(update={"head": head, **with_branch}))
    for name, parameter in model.head.named_parameters():
        if parameter.ndim == 4:
            last = name == "mask_branch.last.conv.weight"
            expected = math.sqrt(2 / 256) if last else 0.01
            assert float(parameter.std()) == pytest.approx(expected, rel=0.1), name
        elif "norm" in name:
            assert bool((parameter == (1 if name.endswith("weight") else 0)).all()), name
        else:
            sure = name.startswith(("class_logits", "masks", "rows", "columns"))
            assert bool((parameter == parameter[0]).all())
            assert float(parameter[0]) == pytest.approx(-math.log(99) if sure else 0), name
    for parameter in model.fpn.parameters():
        if parameter.ndim == 4:
            fan = (parameter.shape[0] + parameter.shape[1]) * parameter[0, 0].numel()
            assert float(parameter.abs().max()) <= math.sqrt(6 / fan)
            assert float(parameter.std()) == pytest.approx(math.sqrt(2 / fan), rel=0.05)
        else:
            assert not parameter.any()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("deformable", ["none", "last", "all"])
def test_every_parameter_that_learns_gets_a_gradient(method: str, deformable: str) -> None:
    model = build(method, deformable=deformable).train()
    output: SoloOutput = model(torch.rand(1, 3, 64, 64))
    total = sum(level.square().sum() for level in output.class_logits)
    for level, grid in enumerate(GRIDS):
        total = total + output.masks.probabilities(level, 0, torch.arange(grid * grid)).square().sum()
    total.backward()
    missing = [name for name, one in model.named_parameters() if one.requires_grad and one.grad is None]
    assert missing == []
    bent = sum(name.endswith(".offset.weight") for name, _ in model.named_parameters())
    towers = 3 if method == "decoupled-solo" else 2
    assert bent == {"none": 0, "last": towers, "all": 2 * towers + (8 if method == "solov2" else 0)}[deformable]


@pytest.mark.parametrize("method", METHODS)
def test_recomputed_maps_give_the_same_gradients(method: str) -> None:
    gradients = []
    for again in (False, True):
        model = build(method).train()
        model.set_recompute(again)
        output = model(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(3)))
        (output.masks.probabilities(0, 0, torch.arange(4)).sum() + output.class_logits[4].sum()).backward()
        gradients.append([parameter.grad for parameter in model.parameters() if parameter.grad is not None])
    assert len(gradients[0]) == len(gradients[1])
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(*gradients, strict=True))


def test_coordinates() -> None:
    """x, then y, from −1 to 1 with both ends."""
    made = with_coordinates(torch.zeros(2, 5, 3, 4))
    assert made.shape == (2, 7, 3, 4)
    assert made[1, 5, 2].tolist() == pytest.approx([-1, -1 / 3, 1 / 3, 1])
    assert made[1, 6, :, 0].tolist() == [-1, 0, 1]
    assert with_coordinates(torch.zeros(1, 1, 3, 4), "y")[0, 1, :, 3].tolist() == [-1, 0, 1]


def test_levels() -> None:
    """P2 shrinks by the mean of 2×2 pixels, P6 grows to P5."""
    pyramid = tuple(torch.rand(1, 2, side, side) for side in (32, 16, 8, 4, 2))
    levels = levels_of(pyramid)
    assert torch.allclose(levels[0], F.avg_pool2d(pyramid[0], 2), atol=1e-6)
    assert [level.shape[-1] for level in levels] == [16, 16, 8, 4, 4]
    assert all(torch.equal(*both) for both in zip(levels[1:4], pyramid[1:4], strict=True))


def test_masks_of_cells() -> None:
    """A fixed filter, the product of a row and a column, and a predicted filter."""
    maps = torch.rand(2, 5, 4, 6)
    weights, biases = torch.randn(9, 5), torch.randn(9)
    fixed = FixedFilters((maps,), (weights,), (biases,))
    expected = F.conv2d(maps, weights[:, :, None, None], biases).sigmoid()
    assert torch.allclose(fixed.probabilities(0, 1, torch.tensor([7, 0])), expected[1, [7, 0]], atol=1e-6)

    rows, columns = torch.randn(2, 3, 4, 6), torch.randn(2, 3, 4, 6)
    product = RowsAndColumns((rows,), (columns,)).probabilities(0, 0, torch.tensor([5]), (8, 12))
    parts: list[Tensor] = [
        F.interpolate(one[:1, at : at + 1].sigmoid(), (8, 12), mode="bilinear") for one, at in ((rows, 1), (columns, 2))
    ]
    assert torch.allclose(product, (parts[0] * parts[1])[0], atol=1e-6)

    filters = torch.randn(2, 5, 3, 3)
    predicted = PredictedFilters(maps, (filters,)).probabilities(0, 1, torch.tensor([5]))
    expected = (filters[1, :, 1, 2, None, None] * maps[1]).sum(0, keepdim=True).sigmoid()
    assert torch.allclose(predicted, expected, atol=1e-6)

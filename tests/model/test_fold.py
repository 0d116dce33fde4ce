"""Folding batch norms does not change the outputs."""

import copy

import pytest
import torch
from torch import Tensor, nn

from condinst.config import Config
from condinst.model.condinst import CondInst
from condinst.model.prediction.fold import fold_norms

SMALL = ["model.classes=[cat]", "model.head={convs: 1, channels: 32}", "model.mask_branch={convs: 1, channels: 16}"]


def build(*overrides: str) -> CondInst:
    torch.manual_seed(0)
    model = CondInst(Config().with_overrides([*SMALL, "model.fpn_channels=32", *overrides]).model).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # statistics and scales that a wrong fold would show
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return model


def flat(output: object) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    return [] if output is None else [one for part in output for one in flat(part)]  # type: ignore[attr-defined]


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize(
    ("overrides", "left"),
    [
        (["model.backbone.name=resnet18", "model.backbone.frozen_stages=0"], 0),
        (["model.backbone.name=resnet26", "model.backbone.stride_in_1x1=true"], 0),
        (["model.backbone={name: mobilenetv2_035, same_padding: true, norm: affine, frozen_stages: 0}"], 0),
        (["model.backbone={name: efficientnet_lite0, norm: batch, frozen_stages: 0}"], 0),
        (["model.backbone.name=resnet18", "model.pyramid=bifpn", "model.bifpn_repeats=2"], None),
    ],
)
@torch.no_grad()
def test_same_answer(overrides: list[str], left: int | None) -> None:
    model = build(*overrides)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    folded = fold_norms(model)
    images = torch.randn(2, 3, 96, 128)
    exact = copy.deepcopy(model).double()(images.double())
    for mine, plain, expected in zip(flat(folded(images)), flat(model(images)), flat(exact), strict=True):
        rounding = (plain - expected).abs().max()  # of float32, without folding
        assert rounding <= 2e-5 * expected.abs().max()
        assert (mine - expected).abs().max() <= 4 * rounding + 1e-5 * expected.abs().max()
    assert norms(folded) == left if left is not None else norms(folded) < norms(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Twice(nn.Module):
    """A convolution whose output goes to a norm and around it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        nn.init.uniform_(self.norm.running_mean, 1, 2)

    def forward(self, images: Tensor) -> Tensor:
        seen = self.conv(images)
        normed: Tensor = self.norm(seen)
        return normed + seen


@torch.no_grad()
def test_models_that_cannot_be_folded_stay_unchanged() -> None:
    model = Twice().eval()
    folded = fold_norms(model)
    assert norms(folded) == 1
    images = torch.randn(1, 3, 16, 16)
    assert torch.equal(folded(images), model(images))
    assert folded is not model

"""Faster convolutions on CPUs give the same outputs as the original layers."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from condinst.config import Config
from condinst.model.condinst import CondInst
from condinst.model.prediction import cpu_layers
from condinst.model.prediction.cpu_layers import Ending, OneDnnConv, WideConv, arrange_for_cpu
from condinst.model.prediction.fold import fold_norms
from condinst.model.prediction.probe import find_pairs

pytestmark = pytest.mark.skipif(not cpu_layers._has_onednn(), reason="torch has no oneDNN here")


class Small(nn.Module):
    """Picture → map. `after` is applied to each convolution's output."""

    def __init__(self, *convs: nn.Conv2d, after: Callable[[], nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.steps = nn.Sequential(*(step for conv in convs for step in (conv, after())))

    def forward(self, picture: Tensor) -> tuple[Tensor, ...]:
        answer: Tensor = self.steps(picture)
        return (answer,)


def in_float64(model: nn.Module, picture: Tensor) -> Tensor:
    answer: Tensor = deepcopy(model).double()(picture.double())[0]
    return answer


def endings(model: nn.Module) -> list[str]:
    return [module.ending.name for module in model.modules() if isinstance(module, OneDnnConv)]


@pytest.mark.parametrize(
    ("after", "ending"), [(nn.ReLU, "relu"), (nn.ReLU6, "hardtanh"), (nn.SiLU, "swish"), (nn.Identity, "none")]
)
@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(3, 24, 1),
        nn.Conv2d(3, 24, 1, bias=False),
        nn.Conv2d(3, 24, 1, stride=2),
        nn.Conv2d(3, 24, 3, padding=2, dilation=2),
        nn.Conv2d(3, 3, 3, padding=1, groups=3),
        Conv2dSame(3, 3, 3, stride=2, groups=3),
    ],
)
def test_a_replaced_convolution_computes_the_same(conv: nn.Conv2d, after: type[nn.Module], ending: str) -> None:
    conv = deepcopy(conv)
    with torch.no_grad():
        conv.weight *= 4  # so that some answers exceed 6
    model = Small(conv, after=after).eval().to(memory_format=torch.channels_last)
    pictures = [torch.randn(2, 3, 64, 96), torch.randn(1, 3, 2, 2)]
    expected = [in_float64(model, picture) for picture in pictures]
    arranged = arrange_for_cpu(model)
    assert endings(arranged) == [ending]
    for picture, wanted in zip(pictures, expected, strict=True):
        found = arranged(picture.to(memory_format=torch.channels_last))[0]
        assert found.shape == wanted.shape
        torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        ["model.backbone.name=resnet50"],
        ["model.backbone.name=mobilenetv2_100", "model.backbone.same_padding=true", "model.backbone.norm=affine"],
        ["model.backbone.name=convnext_atto", "model.backbone.frozen_stages=0"],
    ],
)
def test_a_whole_model_answers_the_same_for_every_size(settings: list[str]) -> None:
    torch.manual_seed(0)
    config = Config().with_overrides(
        [
            *settings,
            "model.classes=[a, b]",
            "model.fpn_channels=32",
            "model.head.channels=32",
            "model.mask_branch.channels=32",
        ]
    )
    folded = fold_norms(CondInst(config.model)).to(memory_format=torch.channels_last)
    plain = deepcopy(folded)
    arranged = arrange_for_cpu(folded)
    assert len(endings(arranged)) > 20
    assert "relu" in endings(arranged)
    for size in ((64, 96), (32, 32), (160, 128)):
        picture = torch.randn(2, 3, *size).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            found, wanted = arranged(picture), plain(picture)
        for mine, theirs in zip(
            (*found.head.filters, found.mask_features), (*wanted.head.filters, wanted.mask_features), strict=True
        ):
            # of the smallest map one pixel is normalised by itself, which enlarges rounding
            assert (mine - theirs).abs().max() <= 2e-4 * theirs.abs().max()


def test_an_activation_stays_if_another_layer_reads_its_input() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu = nn.Conv2d(3, 8, 1), nn.ReLU()

        def forward(self, picture: Tensor) -> tuple[Tensor, ...]:
            made = self.conv(picture)
            return (made + self.relu(made),)

    model = Twice().eval()
    picture = torch.randn(1, 3, 64, 64)
    expected = model(picture)[0]
    arranged = arrange_for_cpu(model)
    assert endings(arranged) == ["none"]
    torch.testing.assert_close(arranged(picture)[0], expected)


def test_an_activation_after_a_sum_in_place_stays() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu = nn.Conv2d(3, 3, 1), nn.ReLU()

        def forward(self, picture: Tensor) -> tuple[Tensor, ...]:
            made = self.conv(picture)
            made += picture
            return (self.relu(made),)

    model = Residual().eval()
    pairs, _ = find_pairs(model, nn.Conv2d, (nn.ReLU,))
    assert not pairs
    picture = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = model(picture)[0]
        torch.testing.assert_close(arrange_for_cpu(model)(picture)[0], expected)


def test_an_activation_shared_by_two_convolutions_stays() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.relu = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()

        def forward(self, picture: Tensor) -> tuple[Tensor, ...]:
            return (self.relu(self.second(self.relu(self.first(picture)))),)

    model = Shared().eval()
    picture = torch.randn(1, 3, 64, 64)
    expected = model(picture)[0]
    arranged = arrange_for_cpu(model)
    assert endings(arranged) == ["none", "none"]
    torch.testing.assert_close(arranged(picture)[0], expected)


def test_without_onednn_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> Tensor:
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_convolution_pointwise'")

    monkeypatch.setattr(OneDnnConv, "forward", missing)
    model = Small(nn.Conv2d(3, 8, 1)).eval()
    assert not endings(arrange_for_cpu(model))


def test_a_kernel_padded_on_two_sides_only_matches_tensorflow_s_rule() -> None:
    conv = Conv2dSame(3, 3, 3, stride=2, groups=3)
    picture = torch.randn(1, 3, 64, 64)
    expected = F.conv2d(F.pad(picture, (0, 1, 0, 1)), conv.weight, conv.bias, 2, 0, 1, 3)
    found = arrange_for_cpu(Small(conv, after=nn.Identity).eval())(picture)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(6, 6, 3, padding=1, groups=6),
        nn.Conv2d(6, 6, 3, padding=1, stride=2, groups=6),
        nn.Conv2d(6, 6, 5, padding=4, dilation=2, groups=6),
        nn.Conv2d(6, 6, 4, padding=1, stride=2, groups=6),
        nn.Conv2d(6, 6, 3, groups=6, bias=False),
    ],
)
@pytest.mark.parametrize("height", [7, 40, 41])
def test_strips_of_a_wide_convolution_make_the_whole(
    conv: nn.Conv2d, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = OneDnnConv(conv, conv.weight.detach(), conv.padding, Ending("relu", ()))
    maps = torch.randn(2, 6, height, 24).bfloat16().contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        whole = layer(maps.float()).bfloat16()
        for numbers in (1, 2 * 6 * 24 * 5, 2 * 6 * 24 * 12):  # one row at a time, and a few
            monkeypatch.setattr(cpu_layers, "CACHED_NUMBERS", numbers)
            made = WideConv(layer)(maps)
            assert made.is_contiguous(memory_format=torch.channels_last)
            torch.testing.assert_close(made, whole, rtol=2**-7, atol=1e-6)

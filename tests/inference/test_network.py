"""The prediction modes: exact equals the model, fast is close to it, compiled equals fast."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from condinst.config import Config
from condinst.errors import UsageError
from condinst.inference.network import COMPILED_DIVISOR, half_type, make_network
from condinst.model.condinst import CondInst
from condinst.predictor import Predictor
from condinst.structures import NetworkOutput

NEEDS_BF16 = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="oneDNN has no bfloat16 on this processor"
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model() -> CondInst:
    torch.manual_seed(0)
    overrides = [
        "model.classes=[cat]",
        "model.backbone={name: mobilenetv2_035, norm: affine, frozen_stages: 0}",
        "model.head={convs: 1, channels: 32}",
        "model.mask_branch={convs: 1, channels: 16}",
        "model.fpn_channels=32",
    ]
    return CondInst(Config().with_overrides(overrides).model).eval()


def test_exact_mode_equals_the_model(model: CondInst) -> None:
    network = make_network(model, "exact", CPU, 32)
    images = torch.randn(2, 3, 96, 128)
    with torch.inference_mode():
        mine, plain, expected = network(images), model(images), copy.deepcopy(model).double()(images.double())
    assert network.dtype == torch.float32
    mine = everywhere(mine)
    for field in ("class_logits", "distances_in_strides", "centerness_logits", "filters"):
        for outputs in zip(*(getattr(one.head, field) for one in (mine, plain, expected)), strict=True):
            assert_as_exact(*outputs)
    assert_as_exact(mine.mask_features, plain.mask_features, expected.mask_features)


def everywhere(output: NetworkOutput) -> NetworkOutput:
    """The output with the filters of all locations, as in training."""
    assert output.controller is not None
    weight, bias = output.controller
    kernel = weight.reshape(3, 3, -1, weight.shape[1]).permute(3, 2, 0, 1)
    filters = tuple(F.conv2d(level, kernel, bias, padding=1) for level in output.head.filters)
    return output._replace(head=output.head._replace(filters=filters), controller=None)


def assert_as_exact(mine: Tensor, plain: Tensor, expected: Tensor) -> None:
    """Assert that `mine` is as far from the float64 values `expected` as the float32 values `plain`, to a factor."""
    largest = expected.abs().max()
    rounding = (plain - expected).abs().max()
    assert rounding <= 1e-5 * largest
    assert (mine - expected).abs().max() <= 4 * rounding + 1e-6 * largest


@NEEDS_BF16
def test_fast_mode_uses_half_precision_if_the_hardware_does(model: CondInst, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("condinst.inference.network.half_type", lambda _: torch.bfloat16)
    network = make_network(model, "fast", CPU, 32)
    images = torch.randn(1, 3, 96, 128)
    with torch.inference_mode():
        mine, expected = network(images), model(images)
    assert mine.mask_features.dtype == torch.bfloat16
    wide = {name for name, p in network.module.named_parameters() if p.dtype == torch.float32}
    depthwise = {name for name, part in model.named_modules() if getattr(part, "groups", 1) > 1}
    assert {name.split(".layer.")[0] for name in wide} == depthwise != set()
    apart = (mine.mask_features.float() - expected.mask_features).square().mean().sqrt()  # the largest one is chance
    assert 1e-5 < apart / expected.mask_features.std() < 0.05
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_half_type_of_this_machine() -> None:
    assert half_type(CPU) in {torch.bfloat16, torch.float32}


def test_unknown_mode(model: CondInst) -> None:
    with pytest.raises(UsageError, match="'quick': expected one of exact, fast, compiled"):
        make_network(model, "quick", CPU, 32)


def test_compiled_pads_to_few_sizes_and_says_when_it_cannot(model: CondInst, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def compile_(module: torch.nn.Module, **options: object) -> object:
        calls.append(options)
        return module

    monkeypatch.setattr(torch, "compile", compile_)
    settings = Config(model=model.config, input={"shorter": 96, "longer": 160})  # type: ignore[arg-type]
    predictor = Predictor.from_model(model, settings, "cpu", mode="compiled")
    picture = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    seen: list[torch.Size] = []
    predictor.network.module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    predictor(picture)
    assert [shape[2] % COMPILED_DIVISOR for shape in seen] == [0]
    assert calls == [{"dynamic": False, "options": {"freezing": True}}]

    def fail(_: object) -> None:
        raise torch._dynamo.exc.InternalTorchDynamoError("no compiler found")

    broken = predictor.network._replace(forward=fail)
    with pytest.raises(UsageError, match=r"no compiler found.*use mode 'fast'"):
        broken(torch.zeros(1, 3, 128, 128))


@NEEDS_BF16
def test_deformable_convolutions_in_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision's operator takes no bfloat16 on CPUs."""
    monkeypatch.setattr("condinst.inference.network.half_type", lambda _: torch.bfloat16)
    torch.manual_seed(0)
    overrides = [
        "model.classes=[cat]",
        "model.backbone={name: resnet26, deformable_interval: 1}",
        "model.head={convs: 1, channels: 32}",
        "model.mask_branch={convs: 1, channels: 16}",
        "model.fpn_channels=32",
    ]
    model = CondInst(Config().with_overrides(overrides).model).eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        mine, expected = make_network(model, "fast", CPU, 32)(images), model(images)
    apart = (mine.mask_features.float() - expected.mask_features).abs().max() / expected.mask_features.abs().max()
    assert apart < 0.1

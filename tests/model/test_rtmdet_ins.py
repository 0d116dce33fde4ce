"""The whole RTMDet-Ins network: one forward pass, gradients, export, faster layers for prediction."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from condinst.errors import ModelError
from condinst.inference.detect import read_filters
from condinst.inference.network import make_network
from condinst.methods.choose import build_network
from condinst.model.condinst import CondInst
from condinst.model.prediction import cpu_layers
from condinst.model.prediction.cpu_layers import OneDnnConv, WideConv
from condinst.model.prediction.fold import fold_norms
from condinst.model.rtmdet_ins import RTMDetIns
from condinst.settings.model import ModelConfig
from condinst.structures import NetworkOutput

SMALL: dict[str, Any] = {
    "method": "rtmdet-ins",
    "classes": ["cat", "dog"],
    "backbone": {"name": "cspnext_tiny", "norm": "batch", "frozen_stages": 0},
    "pyramid": "pafpn",
    "fpn_channels": 16,
    "head": {"convs": 2, "channels": 16, "distance_prior": 1},
    "mask_branch": {"convs": 2, "channels": 16},
    "size_ranges": [],
    "coordinate_scales": [64, 128, 256],
}
CPU = torch.device("cpu")


def make(**settings: Any) -> RTMDetIns:
    torch.manual_seed(0)
    merged = {k: SMALL.get(k, {}) | v if isinstance(v, dict) else v for k, v in settings.items()}
    return RTMDetIns(ModelConfig.model_validate(SMALL | merged))


def busy(model: RTMDetIns) -> RTMDetIns:
    """Statistics, scales and predictions that a wrong fold would show."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_uniform_(module.weight, a=1)
    return model.eval()


def with_filters(output: NetworkOutput) -> NetworkOutput:
    """The output with the filters of all locations, which prediction computes where instances are found."""
    filters = []
    for level, maps in enumerate(output.head.filters):
        images, _, height, width = maps.shape
        of_image = torch.arange(images).repeat_interleave(height * width)
        cells = torch.arange(height * width).repeat(images)
        found = read_filters(output, of_image, torch.full_like(cells, level), cells)
        filters.append(found.reshape(images, height, width, -1).permute(0, 3, 1, 2))
    return output._replace(head=output.head._replace(filters=tuple(filters)), controller=None)


def flat(output: object) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    return [] if output is None else [one for part in output for one in flat(part)]  # type: ignore[attr-defined]


def difference(found: object, expected: object) -> float:
    """Largest difference over the largest magnitude of each map."""
    pairs = list(zip(flat(found), flat(expected), strict=True))
    assert len(pairs) == 10
    return max(float((mine - theirs).abs().max() / theirs.abs().max()) for mine, theirs in pairs)


@pytest.mark.parametrize("training", [True, False])
def test_one_return_type_in_every_mode(training: bool) -> None:
    output = make().train(training)(torch.randn(2, 3, 64, 96))
    assert isinstance(output, NetworkOutput)
    sizes = [(8, 12), (4, 6), (2, 3)]
    head = output.head
    for levels, channels in zip((head.class_logits, head.distances_in_strides, head.filters), (2, 4, 169), strict=True):
        assert [tuple(level.shape) for level in levels] == [(2, channels, *size) for size in sizes]
    assert head.centerness_logits == ()
    assert output.mask_features.shape == (2, 8, 8, 12)
    assert output.semantic_logits is None


@pytest.mark.parametrize("separate", [False, True])
def test_every_parameter_receives_a_gradient(separate: bool) -> None:
    model = make(head={"separate_box_tower": separate}).train()
    sum(maps.square().mean() for maps in flat(model(torch.randn(2, 3, 64, 96)))).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_no_two_names_share_a_tensor() -> None:
    tensors = list(make().state_dict().values())
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == len(tensors)


@torch.no_grad()
def test_a_batch_equals_its_pictures() -> None:
    model = busy(make()).double()
    images = torch.randn(3, 3, 64, 96, dtype=torch.float64)
    together = flat(model(images))
    for index in range(3):
        for one, other in zip(together, flat(model(images[index : index + 1])), strict=True):
            torch.testing.assert_close(one[index], other[0], rtol=1e-9, atol=1e-9)


def test_a_timm_backbone_and_no_mask_features() -> None:
    model = make(backbone={"name": "mobilenetv2_035", "norm": "frozen"}, mask_head={"coordinates": "only"})
    output = model(torch.randn(2, 3, 64, 96))
    assert model.mask_branch is None
    assert output.mask_features.shape == (2, 0, 8, 12)
    assert output.head.filters[0].shape[1] == model.layout.count == 105


def test_build_network_chooses_by_the_method() -> None:
    assert isinstance(build_network(make().config), RTMDetIns)
    condinst = ModelConfig.model_validate({"backbone": {"name": "mobilenetv2_035", "frozen_stages": 0}})
    assert isinstance(build_network(condinst), CondInst)


def test_refusals_and_recompute() -> None:
    with pytest.raises(ModelError, match=r"model\.semantic: .* set it to false"):
        make(semantic=True)
    model = make(backbone={"norm": "affine"}).train()
    model.set_recompute(True)
    assert model.backbone.body.grad_checkpointing


@torch.no_grad()
def test_a_traced_program_accepts_other_sizes() -> None:
    model = busy(make())
    height, width = (32 * torch.export.Dim(name, min=2, max=8) for name in ("rows", "columns"))
    program = torch.export.export(
        model, (torch.randn(2, 3, 96, 128),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC, 2: height, 3: width},)
    )
    images = torch.randn(3, 3, 64, 192)
    assert difference(program.module()(images), model(images)) < 1e-5


@torch.no_grad()
def test_compiles_to_one_graph() -> None:
    model = busy(make())
    images = torch.randn(1, 3, 64, 96)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert difference(compiled(images), model(images)) < 1e-6


@pytest.mark.parametrize("name", ["cspnext_tiny", "cspnext_s", "cspnext_m", "cspnext_l", "cspnext_x"])
@torch.no_grad()
def test_folded_norms_and_faster_layers_compute_the_same(name: str) -> None:
    blocks = {"cspnext_m": 2, "cspnext_l": 3, "cspnext_x": 4}.get(name, 1)
    model = busy(make(backbone={"name": name}, pafpn_blocks=blocks, head={"separate_box_tower": name == "cspnext_s"}))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    images = torch.randn(1, 3, 96, 64)
    expected = model(images)
    folded = fold_norms(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert difference(folded(images), expected) <= 1e-4
    assert difference(with_filters(make_network(model, "exact", CPU, 32)(images)), expected) <= 1e-4
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.skipif(not cpu_layers._has_onednn(), reason="torch has no oneDNN here")
def test_every_activation_is_part_of_its_convolution() -> None:
    """What stays: 4 attentions, 6 predictions, the fusion and the projection of the mask features.

    The towers of the controllers run where instances are found.
    """
    module = make_network(busy(make()), "exact", CPU, 32).module
    assert module is not None
    layers = [part for part in module.modules() if isinstance(part, OneDnnConv)]
    names = [name for name, part in fold_norms(make()).named_modules() if isinstance(part, nn.Conv2d)]
    convs = [name for name in names if not name.startswith("head.controller")]
    assert len(layers) == len(convs) < len(names)
    assert Counter(layer.ending.name for layer in layers) == {"swish": len(convs) - 12, "none": 12}
    assert not any(isinstance(part, nn.SiLU) for part in module.modules())


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="oneDNN has no bfloat16 here")
@torch.no_grad()
def test_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("condinst.inference.network.half_type", lambda _: torch.bfloat16)
    model = busy(make())
    images = torch.randn(1, 3, 96, 128)
    network = make_network(model, "fast", CPU, 32)
    assert network.module is not None
    wide = [part for part in network.module.modules() if isinstance(part, WideConv)]
    depthwise = [part for part in model.modules() if isinstance(part, nn.Conv2d) and part.groups > 1]
    assert len(wide) == len(depthwise) > 0
    assert all(part.layer.weight.dtype == torch.float32 for part in wide)
    output = network(images)
    assert {maps.dtype for maps in flat(output._replace(controller=None))} == {torch.bfloat16}
    halves = [maps.float() for maps in flat(with_filters(output))]
    exact = flat(deepcopy(model)(images))
    assert max(float((one - other).norm() / other.norm()) for one, other in zip(halves, exact, strict=True)) < 0.05

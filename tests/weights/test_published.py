"""State dicts of the published programs: every name is known, and what does not fit is named in one line."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from condinst.errors import ModelError
from condinst.model.condinst import CondInst
from condinst.weights import adelaidet, mmdetection
from condinst.weights.classes import COCO_CLASSES
from condinst.weights.layout import Layout, find_width
from condinst.weights.published import Published, read_published

KEYS = Path(__file__).parents[3] / "shared" / "reference" / "keys"
LAYOUTS = {"adelaidet": adelaidet.FPN_LAYOUT, "bifpn": adelaidet.BIFPN_LAYOUT, "mmdetection": mmdetection.LAYOUT}
HEAD = "proposal_generator.fcos_head."
State = dict[str, Tensor]


def zeros(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor of any size that takes no memory."""
    return torch.zeros((), dtype=dtype).expand(shape)


def written(layout: Layout, overrides: tuple[str, ...] = ()) -> State:
    """What a program of this layout would write for a model of these settings."""
    config = layout.settings.with_overrides([f"model.classes=[{','.join('abc')}]", *overrides])
    with torch.device("meta"):
        own = CondInst(config.model).state_dict()
    state = {}
    for name, tensor in own.items():
        sources = layout.source_names(name)
        shape = tuple(tensor.shape) if len(sources) == 1 else (1,)
        state |= {source: zeros(shape, tensor.dtype) for source in sources}
    return state


@pytest.fixture(scope="module")
def original() -> State:
    return written(adelaidet.FPN_LAYOUT)


def refusal(state: State) -> str:
    with pytest.raises(ModelError) as caught:
        read_published(state, "file.pth")
    text = str(caught.value)
    assert text.startswith("file.pth: ")
    assert "\n" not in text
    return text


def key_list(name: str) -> State:
    rows = [line.split("\t") for line in (KEYS / f"{name}.txt").read_text().splitlines() if line[0] != "#"]
    return {key: zeros(ast.literal_eval(shape), getattr(torch, dtype)) for key, shape, dtype, *_ in rows}


@pytest.mark.skipif(not KEYS.is_dir(), reason=f"key lists of the published models not at {KEYS}")
@pytest.mark.parametrize(
    ("name", "features", "pyramid"),
    [
        ("CondInst_MS_R_50_3x_sem", 8, "fpn"),
        ("BoxInst_MS_R_50_1x", 16, "fpn"),
        ("CondInst_MS_R_101_3x", 8, "fpn"),
        ("CondInst_MS_R_50_BiFPN_1x", 8, "bifpn"),
        ("CondInst_MS_R_101_BiFPN_3x_sem", 8, "bifpn"),
        ("BoxInst_MS_R_101_BiFPN_3x", 16, "bifpn"),
    ],
)
def test_published_key_lists(name: str, features: int, pyramid: str) -> None:
    """Nothing missing, nothing left over, every shape as ours; the settings are read off the tensors."""
    config, tensors = read_published(key_list(name), name)
    model = config.model
    assert model.backbone.name == ("resnet101" if "R_101" in name else "resnet50")
    assert (model.mask_branch.features, model.pyramid, model.semantic) == (features, pyramid, name.endswith("sem"))
    assert model.mask_head.width == 8
    assert model.classes == COCO_CLASSES
    assert (model.channel_order, model.pixel_std) == ("BGR", (1, 1, 1))
    assert tensors["head.scales"].shape == (5,)


@pytest.mark.skipif(not KEYS.is_dir(), reason=f"key lists of the published models not at {KEYS}")
def test_deformable_models_are_refused_and_not_half_loaded() -> None:
    assert "conv2_offset" in refusal(key_list("BoxInst_MS_R_101_BiFPN_dcni3_3x"))


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_tensor_of_ours_has_its_own_source(name: str) -> None:
    layout = LAYOUTS[name]
    state = written(layout)
    for key in state:  # one number each, so that a swap would show
        if key.endswith((".bias", ".scale")):
            state[key] = torch.full(tuple(state[key].shape), float(sum(key.encode())))
    tensors = read_published(state, name).tensors
    for own, tensor in tensors.items():
        sources = layout.source_names(own)
        if own.endswith(".bias") or own == "head.scales":
            assert torch.equal(tensor.unique(), torch.cat([state[source] for source in sources]).unique())
    assert len({source for own in tensors for source in layout.source_names(own)}) == len(tensors) + 4


def test_scales_keep_their_order() -> None:
    state = written(mmdetection.LAYOUT)
    for level in range(5):
        state[f"bbox_head.scales.{level}.scale"] = torch.tensor(float(level))  # without a dimension, as they write it
    assert read_published(state, "file").tensors["head.scales"].tolist() == [0, 1, 2, 3, 4]


def test_rules_of_the_two_programs() -> None:
    original = read_published(written(adelaidet.FPN_LAYOUT), "file").config
    other = read_published(written(mmdetection.LAYOUT), "file").config
    assert (original.model.backbone.stride_in_1x1, other.model.backbone.stride_in_1x1) == (True, False)
    assert (original.detect.score_root, other.detect.score_root) == (True, False)
    assert (original.model.channel_order, other.model.channel_order) == ("BGR", "RGB")
    assert (original.model.backbone.norm, other.model.backbone.norm) == ("frozen", "affine")


def test_prefix_half_precision_and_missing_counters(original: State) -> None:
    state = {f"module.{key}": value.half() for key, value in original.items() if "num_batches" not in key}
    published = read_published(state, "file")
    assert {tensor.dtype for tensor in published.tensors.values()} == {torch.float32, torch.int64}
    assert published.config.model.classes == ("class 0", "class 1", "class 2")


def test_class_names(original: State) -> None:
    assert read_published(original, "file", ("x", "y", "z")).config.model.classes == ("x", "y", "z")
    with pytest.raises(ModelError, match="3 classes in the tensors, 2 names"):
        read_published(original, "file", ("x", "y"))


def without(*keys: str) -> Callable[[State], None]:
    return lambda state: [state.pop(key) for key in keys] and None


def put(key: str, tensor: Tensor) -> Callable[[State], None]:
    return lambda state: state.update({key: tensor})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("controller.bias"), ["missing tensors (1): controller.bias"]),
        (without("controller.weight"), ["missing tensor controller.weight"]),
        (without(*(f"{HEAD}bbox_tower.{i}.bias" for i in (0, 1, 3, 4))), ["missing tensors (4)", "(1 more)"]),
        (put("roi_heads.weight", zeros((1,))), ["unknown tensors (1): roi_heads.weight"]),
        (put("controller.bias", zeros((170,))), ["controller.bias is [170], expected [169]"]),
        (put("controller.weight", zeros((170, 256, 3, 3))), ["a controller of 170 numbers"]),
        (put("controller.weight", zeros(())), ["controller.weight is a single number"]),
        (put("backbone.bottom_up.res4.6.conv1.weight", zeros((256, 1024, 1, 1))), ["7 blocks", "not ResNet-50"]),
        (put(f"{HEAD}scales.2.scale", torch.tensor([float("nan")])), ["NaN or infinity in", "scales.2.scale"]),
        (put(f"{HEAD}scales.2.scale", zeros((5,))), ["scales.2.scale is [5], expected [1]"]),
        (put("mask_branch.logits.weight", zeros((3, 128, 1, 1))), ["missing tensors", "seg_head"]),
    ],
)
def test_what_does_not_fit_is_named(original: State, change: Callable[[State], None], words: list[str]) -> None:
    state = dict(original)
    change(state)
    text = refusal(state)
    for word in words:
        assert word in text


@pytest.mark.parametrize("state", [{}, {"roi_heads.box_head.fc1.weight": zeros((1,))}])
def test_another_model(state: State) -> None:
    assert "not a CondInst of AdelaiDet or mmdetection" in refusal(state)


def test_width_is_read_from_the_number_of_filters() -> None:
    assert [find_width(count, 8) for count in (31, 69, 169, 465)] == [2, 4, 8, 16]
    assert [find_width(count, 16) for count in (233, 593)] == [8, 16]


def test_the_result_builds_the_model() -> None:
    published: Published = read_published(written(mmdetection.LAYOUT), "file")
    model = CondInst(published.config.model)
    model.load_state_dict(published.tensors)
    assert not any(parameter.any() for parameter in model.parameters())

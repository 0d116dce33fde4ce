"""State dicts of the published programs: every name is known, and what does not fit is named in one line."""

from __future__ import annotations

import ast
import re
import resource
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from condinst.errors import ModelError
from condinst.model.condinst import CondInst
from condinst.weights.classes import COCO_CLASSES
from condinst.weights.published import adelaidet, mmdetection
from condinst.weights.published.convert import Published, read_published
from condinst.weights.published.layout import Layout, find_width

REFERENCE = Path(__file__).parents[4] / "shared" / "reference"
KEYS, MMDETECTION = REFERENCE / "keys", REFERENCE / "mmdetection" / "keys.txt"
DEFORMABLE = "BoxInst_MS_R_101_BiFPN_dcni3_3x"
NAMES = (
    "CondInst_MS_R_50_1x",
    "CondInst_MS_R_50_3x",
    "CondInst_MS_R_50_3x_sem",
    "CondInst_MS_R_50_BiFPN_1x",
    "CondInst_MS_R_50_BiFPN_3x",
    "CondInst_MS_R_50_BiFPN_3x_sem",
    "CondInst_MS_R_101_1x",
    "CondInst_MS_R_101_3x",
    "CondInst_MS_R_101_3x_sem",
    "CondInst_MS_R_101_BiFPN_3x",
    "CondInst_MS_R_101_BiFPN_3x_sem",
    "BoxInst_MS_R_50_1x",
    "BoxInst_MS_R_50_3x",
    "BoxInst_MS_R_50_BiFPN_1x",
    "BoxInst_MS_R_50_BiFPN_3x",
    "BoxInst_MS_R_101_1x",
    "BoxInst_MS_R_101_3x",
    "BoxInst_MS_R_101_BiFPN_3x",
    DEFORMABLE,
)
LAYOUTS = {"adelaidet": adelaidet.FPN_LAYOUT, "bifpn": adelaidet.BIFPN_LAYOUT, "mmdetection": mmdetection.LAYOUT}
HEAD = "proposal_generator.fcos_head."
State = dict[str, Tensor]
recorded = pytest.mark.skipif(not KEYS.is_dir(), reason=f"key lists of the published models not at {KEYS}")


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


def key_list(path: Path) -> State:
    rows = [line.split("\t") for line in path.read_text().splitlines() if line[0] != "#"]
    return {key: zeros(ast.literal_eval(shape), getattr(torch, dtype)) for key, shape, dtype, *_ in rows}


@recorded
@pytest.mark.parametrize("name", NAMES)
def test_published_key_lists(name: str) -> None:
    """Nothing missing, nothing left over, every shape as ours; the settings are read off the tensors."""
    config, tensors = read_published(key_list(KEYS / f"{name}.txt"), name)
    model = config.model
    features, count = (16, 233) if name.startswith("BoxInst") else (8, 169)
    assert model.backbone.name == ("resnet101" if "R_101" in name else "resnet50")
    assert model.backbone.deformable_interval == ("dcni3" in name)
    assert (model.pyramid, model.fpn_channels) == (("bifpn", 160) if "BiFPN" in name else ("fpn", 256))
    assert (model.mask_branch.features, model.mask_head.width) == (features, 8)
    assert tuple(tensors["head.controller.weight"].shape) == (count, model.fpn_channels, 3, 3)
    assert model.semantic == name.endswith("sem")
    assert model.classes == COCO_CLASSES
    assert model.backbone.stride_in_1x1
    assert (model.channel_order, model.pixel_std) == ("BGR", (1, 1, 1))
    assert tensors["head.scales"].shape == (5,)


def deformable_only(state: State, wanted: Callable[[int, int], bool]) -> State:
    """`state` without the offsets of the blocks (stage, index) that are not wanted."""
    places = {key: re.search(r"res(\d)\.(\d+)\.conv2_offset", key) for key in state}
    return {key: value for key, value in state.items() if not (at := places[key]) or wanted(int(at[1]), int(at[2]))}


@recorded
@pytest.mark.parametrize("interval", [1, 2, 3, 23])
def test_deformable_blocks_are_read_from_the_names(interval: int) -> None:
    state = deformable_only(key_list(KEYS / f"{DEFORMABLE}.txt"), lambda _, index: index % interval == 0)
    config, tensors = read_published(state, "file")
    assert config.model.backbone.deformable_interval == interval
    found = [name for name in tensors if name.endswith("conv2.offset.weight")]
    assert len(found) == sum(key.endswith("conv2_offset.weight") for key in state) >= 3
    shapes = {tuple(tensors[name].shape) for name in found}
    assert shapes == {(27, 128, 3, 3), (27, 256, 3, 3), (27, 512, 3, 3)}


@recorded
def test_other_choices_of_deformable_blocks_are_refused() -> None:
    state = key_list(KEYS / f"{DEFORMABLE}.txt")
    words = "expected in every n-th block of res3, res4 and res5"
    text = refusal(deformable_only(state, lambda stage, index: (stage, index) != (4, 7)))
    assert "deformable convolutions in res3.0, res3.1, res3.2, " in text
    assert words in text
    assert words in refusal(deformable_only(state, lambda stage, _: stage != 3))
    assert words in refusal(deformable_only(state, lambda _, index: index % 3 == 1))
    offset = "backbone.bottom_up.backbone.res{}.conv2_offset.{}"
    assert words in refusal(state | {offset.format("2.0", "weight"): zeros((27, 64, 3, 3))})
    bias = offset.format("4.0", "bias")
    assert f"missing tensors (1): {bias}" in refusal({key: state[key] for key in state if key != bias})


@recorded
@pytest.mark.parametrize("layers", [50, 101])
def test_boxinst_of_mmdetection(layers: int) -> None:
    """16 mask features and a head of width 16: 593 numbers; the rest is their CondInst, more blocks apart."""
    state = key_list(MMDETECTION) | {"mask_head._iter": zeros((1,))}
    for name in ("weight", "bias"):
        for key, count in ((f"bbox_head.controller.{name}", 593), (f"{mmdetection.BRANCH}conv_pred.{name}", 16)):
            state[key] = zeros((count, *state[key].shape[1:]))
    if layers == 101:
        last = {key: value for key, value in state.items() if key.startswith("backbone.layer3.5.")}
        state |= {key.replace("3.5", f"3.{block}", 1): value for block in range(6, 23) for key, value in last.items()}
    config, tensors = read_published(state, "file")
    model = config.model
    assert model.backbone.name == f"resnet{layers}"
    assert (model.mask_branch.features, model.mask_head.width, model.mask_head.depth) == (16, 16, 3)
    assert tuple(tensors["head.controller.weight"].shape) == (593, 256, 3, 3)
    assert (model.backbone.stride_in_1x1, model.backbone.norm, model.channel_order) == (False, "affine", "RGB")
    assert not config.detect.score_root
    assert model.classes == COCO_CLASSES


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
    drawn = [(config.targets.mask_sampling, config.targets.max_mask_positives) for config in (original, other)]
    assert drawn == [("random", 500), ("random_per_image", 300)]


def test_prefix_half_precision_and_missing_counters(original: State) -> None:
    state = {f"module.{key}": value.half() for key, value in original.items() if "num_batches" not in key}
    published = read_published(state, "file")
    assert {tensor.dtype for tensor in published.tensors.values()} == {torch.float32, torch.int64}
    assert published.config.model.classes == ("class 0", "class 1", "class 2")


def test_class_names(original: State) -> None:
    assert read_published(original, "file", ("x", "y", "z")).config.model.classes == ("x", "y", "z")
    with pytest.raises(ModelError, match="3 classes in the tensors, 2 names"):
        read_published(original, "file", ("x", "y"))
    with pytest.raises(ModelError, match=r"^file: .*classes holds a name twice"):
        read_published(original, "file", ("x", "y", "x"))


def without(*keys: str) -> Callable[[State], None]:
    return lambda state: [state.pop(key) for key in keys] and None


def put(key: str, tensor: Tensor) -> Callable[[State], None]:
    return lambda state: state.update({key: tensor})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("controller.bias"), ["missing tensors (1): controller.bias"]),
        (without("controller.weight"), ["missing tensors (1): controller.weight: not a complete"]),
        (without(*(f"{HEAD}bbox_tower.{i}.bias" for i in (0, 1, 3, 4))), ["missing tensors (4)", "bbox_tower.4.bias"]),
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


def test_all_that_the_architecture_is_read_from_is_named(original: State) -> None:
    gone = [f"{HEAD}cls_logits.weight", "mask_branch.tower.4.weight", "controller.weight"]
    text = refusal({key: tensor for key, tensor in original.items() if key not in gone})
    assert f"missing tensors (3): {', '.join(gone)}" in text


@pytest.mark.filterwarnings("ignore:Sparse CSR", "ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize(
    "change",
    [
        Tensor.to_sparse,
        lambda tensor: tensor.expand(3, 3).to_sparse_csr(),
        lambda tensor: tensor.to("meta"),
        lambda tensor: tensor.to(torch.complex64),
        lambda tensor: torch.quantize_per_tensor(tensor, 1.0, 0, torch.qint8),
        lambda tensor: tensor.to(torch.float8_e5m2),
    ],
    ids=["sparse", "rows", "meta", "complex", "quantized", "eight bits"],
)
def test_tensors_that_are_no_plain_numbers(change: Callable[[Tensor], Tensor], original: State) -> None:
    state = original | {f"{HEAD}bbox_pred.bias": change(torch.zeros(3))}
    assert f"without numbers: {HEAD}bbox_pred.bias;" in refusal(state)


def peak() -> int:
    """Most memory that this process ever held, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize(
    ("key", "shape", "words"),
    [
        (f"{HEAD}bbox_pred.weight", (2**45,), f"bbox_pred.weight is [{2**45}], expected [4, 256, 3, 3]"),
        (f"{HEAD}cls_logits.weight", (10**8, 256, 3, 3), "made for 100000000, expected 1 to 20000"),
        (f"{HEAD}cls_logits.weight", (0, 256, 3, 3), "made for 0, expected 1 to 20000"),
        ("mask_branch.tower.4.weight", (10**8, 128, 1, 1), "made for 100000000, expected 1 to 64"),
        ("controller.weight", (10**12, 256, 3, 3), "a controller of 1000000000000 numbers"),
    ],
)
def test_tensors_of_enormous_size(key: str, shape: tuple[int, ...], words: str, original: State) -> None:
    """A few bytes in the file. They are refused before anything of their size is allocated, and soon."""
    before, start = peak(), time.process_time()
    assert words in refusal(original | {key: zeros(shape, torch.float16)})
    assert time.process_time() - start < 5
    assert peak() - before < 500 * 1024


def test_names_with_and_without_prefix(original: State) -> None:
    text = refusal(original | {"module.controller.bias": original["controller.bias"]})
    assert "with and without the prefix 'module.': controller.bias;" in text


def test_names_that_are_no_words(original: State) -> None:
    text = refusal(original | {"a\nb\x1b": zeros((1,)), "c" * 10**6: zeros((1,))})
    assert "unknown tensors (2): a b\\x1b, ccc" in text
    assert len(text) < 1000
    deep = f"{adelaidet.FPN_BODY}res4.{'9' * 5000}.conv2_offset.weight"
    assert "7 blocks" in refusal(original | {deep: zeros((1,))})


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

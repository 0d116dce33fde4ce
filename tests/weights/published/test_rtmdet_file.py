"""Files of RTMDet-Ins: both programs' names, copies of shared tensors, other kinds of RTMDet, refusals in one line."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from condinst.errors import ModelError
from condinst.methods.choose import build_network
from condinst.recipes import load_recipe
from condinst.weights.classes import COCO_CLASSES
from condinst.weights.folder import load_model
from condinst.weights.outline import outline
from condinst.weights.published.convert import read_published
from condinst.weights.published.pth import read_foreign
from condinst.weights.published.rtmdet import BOX_TOWER, CLASS_TOWER, alias_names, source_names

State = dict[str, Tensor]
SIZES = ("tiny", "s", "m", "l", "x")
NORM = "bbox_head.reg_convs.2.1.bn.running_mean"
CONV = "bbox_head.cls_convs.1.0.conv.weight"


@cache
def _written(size: str, classes: int) -> State:
    names = tuple(map(str, range(classes)))
    model = load_recipe(f"rtmdet-ins-{size}").model.model_copy(update={"classes": names})
    with torch.device("meta"):
        own = build_network(model).state_dict()
    state: State = {}
    for name, tensor in own.items():
        value = torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)  # takes no memory
        state |= dict.fromkeys((*source_names(name), *alias_names(name)), value)
    return state


def written(size: str = "tiny", classes: int = 80) -> State:
    """What mmdetection would write; all numbers are 0."""
    return dict(_written(size, classes))


def as_mirror(state: State) -> State:
    return {name.replace("bbox_head.", "head.", 1): tensor for name, tensor in state.items()}


def refusal(state: State) -> str:
    with pytest.raises(ModelError) as caught:
        read_published(state, "file.pth")
    text = str(caught.value)
    assert text.startswith("file.pth: ")
    assert "\n" not in text
    return text


@pytest.mark.parametrize("size", SIZES)
def test_the_settings_are_those_of_the_recipe(size: str) -> None:
    config, tensors = read_published(written(size), "file")
    recipe = load_recipe(f"rtmdet-ins-{size}")
    model = recipe.model.model_copy(update={"classes": COCO_CLASSES})
    assert config == recipe.model_copy(update={"model": model, "about": config.about})
    assert config.about["origin"] == "mmdetection"
    assert "Apache-2.0" in config.about["licence"]
    with torch.device("meta"):
        assert list(tensors) == list(build_network(model).state_dict())


def wrap(content: Callable[[State], object], suffix: str = "pth", old: bool = False) -> tuple[object, ...]:
    return content, suffix, old


@pytest.mark.parametrize(
    ("content", "suffix", "old"),
    [
        wrap(
            lambda state: {"meta": {"dataset_meta": {"CLASSES": "ab"[:0] or ("a", "b")}}, "state_dict": state}, old=True
        ),
        wrap(lambda state: {"meta": {"epoch": 3}, "state_dict": state, "optimizer": {"state": {0: torch.ones(2)}}}),
        wrap(lambda state: {"model": as_mirror(state), "names": {0: "a", 1: "b"}, "size": "t", "nc": 2}, "pt"),
        wrap(lambda state: as_mirror(state), "pt"),
        wrap(lambda state: {"state_dict": {f"module.{name}": value.half() for name, value in state.items()}}),
        wrap(
            lambda state: {
                "ema_state_dict": {f"module.{name}": v for name, v in state.items()} | {"steps": torch.tensor(7)}
            }
        ),
    ],
    ids=["published", "with an optimizer", "mirror", "mirror without notes", "parallel in half", "moving average"],
)
def test_kinds_of_files(content: Callable[[State], object], suffix: str, old: bool, tmp_path: Path) -> None:
    path = tmp_path / f"model.{suffix}"
    state = written(classes=2) | {"bbox_head.rtm_reg.1.bias": torch.tensor([1.0, 2, 3, 4])}
    made = content(state)
    torch.save(made, path, _use_new_zipfile_serialization=not old)
    model, config = load_model(path)
    named = isinstance(made, dict) and ("names" in made or old)
    assert config.model.classes == (("a", "b") if named else ("class 0", "class 1"))
    assert model.head.distances[1].bias.tolist() == [1, 2, 3, 4]
    assert model.head.distances[1].bias.dtype == torch.float32
    assert not config.model.head.separate_box_tower


def test_the_copies_may_be_missing() -> None:
    state = {name: value for name, value in written().items() if not name.startswith(BOX_TOWER)}
    del state[CONV], state["bbox_head.cls_convs.2.1.conv.weight"]
    assert len(written()) - len(state) == 38  # 36 copies in the box tower, and two more
    assert not read_published(state, "file").config.model.head.separate_box_tower


def test_a_box_tower_of_its_own() -> None:
    """One number decides it. The names of the other tensors stay."""
    state = written()
    state[NORM] = torch.zeros(96).index_fill(0, torch.tensor(5), 1e-30)
    config, tensors = read_published(state, "file")
    assert config.model.head.separate_box_tower
    assert tensors["head.box_tower.norms.2.1.running_mean"].tolist() == state[NORM].tolist()
    assert not tensors["head.class_tower.norms.2.1.running_mean"].any()
    assert "towers for classes, boxes and filters" in outline(config).head
    assert "a tower for classes and boxes" in outline(read_published(written(), "file").config).head
    with torch.device("meta"):
        assert list(tensors) == list(build_network(config.model).state_dict())
    del state[NORM.replace("mean", "var")]
    assert f"missing tensors (1): {NORM.replace('mean', 'var')}" in refusal(state)


def test_counters_alone_make_no_tower() -> None:
    counter = NORM.replace("running_mean", "num_batches_tracked")
    config = read_published(written() | {counter: torch.tensor(9)}, "file").config
    assert not config.model.head.separate_box_tower


@pytest.mark.parametrize("tower", [CLASS_TOWER, BOX_TOWER])
@pytest.mark.parametrize("level", [1, 2])
def test_levels_that_do_not_share_their_convolutions(tower: str, level: int) -> None:
    name = f"{tower}{level}.1.conv.weight"
    text = refusal(written() | {name: torch.full((96, 96, 3, 3), 1e-30)})
    assert f"{name} differs from {tower}0.1.conv.weight" in text


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"bbox_head.rtm_cls.0.weight": torch.zeros(80, 96, 1, 1)}, "finds boxes alone: it has no rtm_kernel"),
        ({"head.rtm_cls.0.weight": torch.zeros(80, 96, 1, 1)}, "finds boxes alone: it has no rtm_kernel"),
        (
            {name: torch.zeros(1) for name in ("bbox_head.rtm_cls.0.weight", "bbox_head.rtm_ang.0.weight")},
            "an RTMDet for rotated boxes, which has no masks",
        ),
        (
            {
                "bbox_head.head_module.rtm_cls.0.weight": torch.zeros(1),
                "bbox_head.head_module.rtm_kernel.0.weight": torch.zeros(1),
            },
            "an RTMDet of another program, by its tensor bbox_head.head_module.rtm_cls.0.weight",
        ),
    ],
)
def test_other_kinds_of_rtmdet(state: State, words: str) -> None:
    body = {name: value for name, value in written().items() if name.startswith(("backbone.", "neck."))}
    text = refusal(body | state)
    assert words in text
    assert "give a file of RTMDet-Ins" in text


def block(stage: int, index: int) -> str:
    return f"backbone.stage{stage}.1.blocks.{index}.conv1.conv.weight"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {block(2, 1): torch.zeros(1)},
            "24 channels after the stem and 2 blocks in its second stage is none of the known",
        ),
        ({"backbone.stem.2.conv.weight": torch.zeros(20, 12, 3, 3)}, "known sizes: tiny, s, m, l, x"),
        ({"backbone.stem.2.conv.weight": torch.zeros(())}, "missing tensors (1): backbone.stem.2.conv.weight"),
        ({block(3, 1): torch.zeros(1)}, f"unknown tensors (1): {block(3, 1)}"),
        ({"neck.extra": torch.zeros(1)}, "unknown tensors (1): neck.extra"),
        ({"bbox_head.rtm_kernel.0.weight": torch.zeros(170, 96, 1, 1)}, "a controller of 170 numbers"),
        (
            {"bbox_head.rtm_kernel.1.weight": torch.zeros(170, 96, 1, 1)},
            "rtm_kernel.1.weight is [170, 96, 1, 1], expected",
        ),
        ({"bbox_head.rtm_cls.0.weight": torch.zeros(81, 96, 1, 1)}, "rtm_cls.0.bias is [80], expected [81]"),
        ({"bbox_head.rtm_reg.2.bias": torch.full((4,), torch.nan)}, "NaN or infinity in bbox_head.rtm_reg.2.bias"),
        ({CONV: torch.zeros(95, 96, 3, 3)}, f"{CONV} differs from"),
        (
            {f"bbox_head.cls_convs.{level}.0.conv.weight": torch.zeros(()).expand(2**40) for level in range(3)},
            f"cls_convs.0.0.conv.weight is [{2**40}], expected [96, 96, 3, 3]",
        ),
    ],
)
def test_what_does_not_fit_is_named(changes: State, words: str) -> None:
    assert words in refusal(written() | changes)


def test_a_part_of_a_file() -> None:
    state = written()
    for name in ("bbox_head.mask_head.projection.weight", "neck.reduce_layers.0.bn.bias"):
        text = refusal({key: value for key, value in state.items() if key != name})
        assert f"missing tensors (1): {name}" in text


def test_a_mirror_is_told_by_mmdetections_names() -> None:
    assert "unknown tensors (1): bbox_head.extra" in refusal(as_mirror(written() | {"bbox_head.extra": torch.zeros(1)}))


def test_names_that_are_no_list(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"model": as_mirror(written(classes=2)), "names": {0: "a", 1: 5}}, path)
    with pytest.raises(ModelError, match=r"not a list of names"):
        read_foreign(path)

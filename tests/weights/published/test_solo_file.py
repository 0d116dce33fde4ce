"""Files and recipes of the SOLO family: what their names and shapes tell, and what was published about them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from condinst.engine.optimizer import lr_factor
from condinst.errors import ModelError
from condinst.methods.choose import build_network
from condinst.recipes import load_recipe
from condinst.weights.catalogue import CATALOGUE, PUBLISHED, Checkpoint, find_checkpoint
from condinst.weights.classes import COCO_CLASSES
from condinst.weights.outline import count_parameters, expected_config
from condinst.weights.published.convert import read_published
from condinst.weights.published.solo import BRANCH, source_names

State = dict[str, Tensor]
SPEC = Path(__file__).parents[4] / "shared" / "spec" / "solo_yolact.md"
FAMILY = [checkpoint for checkpoint in PUBLISHED if re.match("(decoupled_)?solo", checkpoint.title)]
NAMES = [checkpoint.recipe for checkpoint in FAMILY]
# the authors' names of some tensors of each kind
AUTHORS = {
    "solo-r50-1x": {
        "bbox_head.ins_convs.0.conv.weight": "mask_head.mask_convs.0.conv.weight",
        "bbox_head.cate_convs.6.gn.bias": "mask_head.cls_convs.6.gn.bias",
        "bbox_head.solo_ins_list.4.bias": "mask_head.conv_mask_list.4.bias",
        "bbox_head.solo_cate.weight": "mask_head.conv_cls.weight",
    },
    "decoupled-solo-r50-1x": {
        "bbox_head.ins_convs_x.0.conv.weight": "mask_head.mask_convs_x.0.conv.weight",
        "bbox_head.dsolo_ins_list_y.2.weight": "mask_head.conv_mask_list_y.2.weight",
        "bbox_head.dsolo_cate.bias": "mask_head.conv_cls.bias",
    },
    "solov2-r50-1x": {
        "bbox_head.kernel_convs.3.gn.weight": "mask_head.kernel_convs.3.gn.weight",
        "bbox_head.solo_kernel.bias": "mask_head.conv_kernel.bias",
        "mask_feat_head.convs_all_levels.3.conv2.gn.bias": f"{BRANCH}convs_all_levels.3.conv2.gn.bias",
        "mask_feat_head.conv_pred.0.gn.weight": f"{BRANCH}conv_pred.gn.weight",
    },
}


def published(name: str, classes: int = 80) -> State:
    """A state dict by mmdetection's names, of tensors that take no memory."""
    model = load_recipe(name).model.model_copy(update={"classes": tuple(str(label) for label in range(classes))})
    with torch.device("meta"):
        own = build_network(model).state_dict()
    return {source_names(key)[0]: torch.zeros(()).expand(tensor.shape) for key, tensor in own.items()}


def by_authors(name: str) -> State:
    """The same by the names of the authors' program."""
    prefixes = (
        ("mask_head.mask_feature_head.conv_pred.", "mask_feat_head.conv_pred.0."),
        ("mask_head.mask_feature_head.", "mask_feat_head."),
        ("mask_head.mask_convs", "bbox_head.ins_convs"),
        ("mask_head.cls_convs.", "bbox_head.cate_convs."),
        ("mask_head.kernel_convs.", "bbox_head.kernel_convs."),
        ("mask_head.conv_mask_list.", "bbox_head.solo_ins_list."),
        ("mask_head.conv_mask_list_", "bbox_head.dsolo_ins_list_"),
        ("mask_head.conv_cls.", "bbox_head.dsolo_cate." if "decoupled" in name else "bbox_head.solo_cate."),
        ("mask_head.conv_kernel.", "bbox_head.solo_kernel."),
    )

    def renamed(key: str) -> str:
        theirs, ours = next(((old, new) for old, new in prefixes if key.startswith(old)), ("", ""))
        return ours + key.removeprefix(theirs)

    return {renamed(key): tensor for key, tensor in published(name).items()}


@pytest.mark.skipif(not SPEC.is_file(), reason=f"the published table is not at {SPEC}")
@pytest.mark.parametrize("checkpoint", FAMILY, ids=NAMES)
def test_places_and_accuracy(checkpoint: Checkpoint) -> None:
    text = SPEC.read_text().split("## 6.")[1].split("## 7.")[0]
    short = checkpoint.file.removeprefix(checkpoint.title)
    assert (checkpoint.file in text) or f"…{short}" in text
    assert checkpoint.place.endswith(f"/v2.0/{'solov2' if 'solov2' in checkpoint.title else 'solo'}/{checkpoint.title}")
    assert str(checkpoint.mask_ap) in text
    assert checkpoint.file.endswith(f"-{checkpoint.sha256}.pth")


def test_names() -> None:
    assert len(FAMILY) == 13
    for name in ("solov2-r50-3x", "SOLOv2-R50-3x", "mmdetection/solov2_r50_fpn_3x_coco"):
        assert find_checkpoint(name) == CATALOGUE["mmdetection/solov2_r50_fpn_3x_coco"]
    about = CATALOGUE["mmdetection/solov2_r50_fpn_3x_coco"].about
    assert (about["licence"], about["recipe"]) == ("Apache-2.0", "solov2-r50-3x")
    assert "box AP" not in about


@pytest.mark.parametrize("checkpoint", FAMILY, ids=NAMES)
def test_the_settings_are_read_off_the_tensors(checkpoint: Checkpoint) -> None:
    """Backbones, light forms and deformable convolutions."""
    expected = expected_config(checkpoint)
    found = read_published(published(checkpoint.recipe), checkpoint.recipe).config
    assert found.model == expected.model
    assert (found.input, found.detect, found.loss) == (expected.input, expected.detect, expected.loss)


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("solov2-r101-3x", 65_585_040),
        ("solov2-light-r34-3x", 28_379_920),
        ("solov2-light-r18-3x", 18_271_760),
    ],
)
def test_other_backbones(name: str, total: int) -> None:
    model = load_recipe(name).model.model_copy(update={"classes": COCO_CLASSES})
    assert count_parameters(model)["total"] == total


def test_deformable_convolutions() -> None:
    """In the backbone from C3 on, in all blocks of both towers and of the mask features, the 1×1 block included."""
    state = published("solov2-r101-dcn-3x")
    offsets = {key.removesuffix(".conv_offset.weight") for key in state if key.endswith("conv_offset.weight")}
    assert sum(key.startswith("backbone.") for key in offsets) == 4 + 23 + 3
    assert not any(key.startswith("backbone.layer1.") for key in offsets)
    assert sum(key.startswith("mask_head.cls_convs.") for key in offsets) == 4
    assert sum(key.startswith("mask_head.kernel_convs.") for key in offsets) == 4
    assert sum("convs_all_levels" in key for key in offsets) == 7
    assert state["mask_head.mask_feature_head.conv_pred.conv.conv_offset.weight"].shape == (3, 128, 1, 1)
    assert state["mask_head.kernel_convs.0.conv.conv_offset.weight"].shape == (27, 258, 3, 3)


@pytest.mark.parametrize("name", AUTHORS)
def test_files_of_the_authors(name: str) -> None:
    state = by_authors(name)
    mine = published(name)
    for theirs, ours in AUTHORS[name].items():
        assert state[theirs].shape == mine[ours].shape
    found, expected = read_published(state, name), read_published(mine, name)
    assert found.config.model == expected.config.model
    assert found.tensors.keys() == expected.tensors.keys()
    assert "non-commercial" in found.config.about["licence"]


def test_other_classes_and_sizes() -> None:
    found = read_published(published("decoupled-solo-r50-1x", 3), "a file", ("a", "b", "c")).config
    assert found.model.classes == ("a", "b", "c")
    state = published("solo-r50-1x")
    for level, grid in enumerate((20, 18, 12, 8, 6)):
        state[f"mask_head.conv_mask_list.{level}.weight"] = torch.zeros(()).expand(grid * grid, 256, 1, 1)
        state[f"mask_head.conv_mask_list.{level}.bias"] = torch.zeros(()).expand(grid * grid)
    assert read_published(state, "a file").config.model.solo.grids == (20, 18, 12, 8, 6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("mask_head.conv_cls.weight"), r"missing tensors \(1\): mask_head.conv_cls.weight"),
        (lambda state: state.pop("mask_head.conv_kernel.weight"), "not a complete model"),
        (lambda state: state.pop("neck.fpn_convs.3.conv.bias"), "missing tensors"),
        (lambda state: state.update({"backbone.layer3.6.conv1.weight": torch.zeros(1)}), "none of the known ones"),
        (lambda state: state.update({"mask_head.conv_cls.weight": torch.tensor(1.0)}), "a single number"),
        (lambda state: state.update({"extra": torch.zeros(1)}), r"unknown tensors \(1\): extra"),
    ],
)
def test_refusals(change: Callable[[State], object], words: str) -> None:
    state = published("solov2-r50-1x")
    change(state)
    with pytest.raises(ModelError, match=words) as caught:
        read_published(state, "a file")
    assert "\n" not in str(caught.value)


# --- the recipes


@pytest.mark.parametrize("name", NAMES)
def test_published_schedule(name: str) -> None:
    """To the iteration, for COCO's 117 266 pictures with objects."""
    config = load_recipe(name)
    long = "3x" in name
    total, drops = (36, [27, 33]) if long else (12, [8, 11])
    epoch = 117_266 // 16
    train = config.train.model_copy(update={"iterations": total * epoch})
    assert (train.epochs, train.batch_size, train.optimizer, train.lr, train.momentum) == (total, 16, "sgd", 0.01, 0.9)
    assert (train.weight_decay, train.decay_norms) == (1e-4, True)
    factors = [lr_factor(drop * epoch + shift, train) for drop in drops for shift in (-1, 1)]
    assert factors == pytest.approx([1, 0.1, 0.1, 0.01])
    first = 1 / 3 if long else 1e-3
    assert (lr_factor(0, train), lr_factor(500, train)) == pytest.approx((first, 1), abs=1e-6)
    assert train.clip_norm == (35 if "solov2" in name else 0)
    words = f"{total} epochs of batches of 16 pictures, ÷10 at epochs {drops[0]} and {drops[1]}"
    assert config.about["schedule"] == words


@pytest.mark.parametrize("name", NAMES)
def test_published_sizes(name: str) -> None:
    config = load_recipe(name)
    longest = {"decoupled-solo-light-r50-3x": (512, 852)}.get(name, (448, 768) if "light" in name else (800, 1333))
    assert (config.input.shorter, config.input.longer, config.augment.longer) == (*longest, longest[1])
    light, usual = (352, 384, 416, 448, 480, 512), (640, 672, 704, 736, 768, 800)
    assert config.augment.shorter == (light if "light" in name else usual if "3x" in name else (800,))
    lows = {"decoupled-solo-light-r50-3x": 64}.get(name, 56 if "light" in name else 96)
    assert config.model.size_ranges[0] == (1, lows)
    assert (config.detect.score_threshold, config.detect.decayed_threshold) == (0.1, 0.05)
    assert (config.detect.candidates_per_level, config.detect.max_detections) == (500, 100)
    assert (config.loss.mask_weight, config.targets.center_part) == (3, 0.2)

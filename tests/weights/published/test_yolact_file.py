"""Files of YOLACT: both versions' names, sizes, refusals in one line, and what is known about the published files."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from condinst.engine.optimizer import lr_factor
from condinst.errors import ModelError
from condinst.methods.choose import build_network
from condinst.recipes import load_recipe
from condinst.weights.catalogue import CATALOGUE, find_checkpoint
from condinst.weights.classes import COCO_CLASSES
from condinst.weights.folder import load_model
from condinst.weights.obtain import obtain
from condinst.weights.outline import expected_config, outline
from condinst.weights.published.convert import read_published
from condinst.weights.published.yolact import OLD_SEMANTIC, SEMANTIC, source_names

State = dict[str, Tensor]
SPEC = Path(__file__).parents[4] / "shared" / "spec" / "solo_yolact.md"
DOCUMENT = Path(__file__).parents[3] / "docs" / "how-to" / "published.md"
NAMES = {
    "yolact-r50": "yolact_r50_1x8_coco",
    "yolact-r50-8x8": "yolact_r50_8x8_coco",
    "yolact-r101": "yolact_r101_1x8_coco",
}


@cache
def _written(recipe: str, classes: int) -> State:
    names = tuple(map(str, range(classes)))
    model = load_recipe(recipe).model.model_copy(update={"classes": names})
    with torch.device("meta"):
        own = build_network(model).state_dict()
    # takes no memory
    return {
        source_names(name)[0]: torch.zeros((), dtype=tensor.dtype).expand(tensor.shape) for name, tensor in own.items()
    }


def written(recipe: str = "yolact-r50", classes: int = 80) -> State:
    """What mmdetection 3 would write; all numbers are 0."""
    return dict(_written(recipe, classes))


def refusal(state: State) -> str:
    with pytest.raises(ModelError) as caught:
        read_published(state, "file.pth")
    text = str(caught.value)
    assert text.startswith("file.pth: ")
    assert "\n" not in text
    return text


@pytest.mark.parametrize("recipe", NAMES)
def test_settings_are_those_of_the_recipe(recipe: str) -> None:
    checkpoint = find_checkpoint(recipe)
    assert checkpoint is not None
    found = read_published(written(recipe), recipe).config
    expected = expected_config(checkpoint)
    assert found.model == expected.model
    assert (found.input, found.detect) == (expected.input, expected.detect)
    assert found.model.classes == COCO_CLASSES
    assert outline(found).parameters["total"] == {"yolact-r101": 54_285_839}.get(recipe, 35_293_711)


def test_names_of_mmdetection_2() -> None:
    """The semantic head had another name."""
    state = written()
    state[f"{SEMANTIC}bias"] = torch.arange(80.0)
    old = {name.replace(SEMANTIC, OLD_SEMANTIC): tensor for name, tensor in state.items()}
    assert old.keys() != state.keys()
    tensors = read_published(old, "old").tensors
    assert torch.equal(tensors["semantic_head.bias"], torch.arange(80.0))
    assert tensors.keys() == read_published(state, "new").tensors.keys()


def test_other_classes_and_no_semantic_head() -> None:
    state = {name: tensor for name, tensor in written(classes=3).items() if not name.startswith(SEMANTIC)}
    config = read_published(state, "file.pth", ("a", "b", "c")).config
    assert (config.model.classes, config.model.semantic) == (("a", "b", "c"), False)


def test_wrappers(tmp_path: Path) -> None:
    """A whole checkpoint with class names, in half precision, of a parallel model, with counters and an optimizer."""
    state = {f"module.{name}": torch.rand(tensor.shape).half() for name, tensor in written(classes=2).items()}
    content = {"state_dict": state, "meta": {"CLASSES": ("cat", "dog")}, "optimizer": {"state": {}}}
    torch.save(content, tmp_path / "model.pth")
    model, config = load_model(tmp_path / "model.pth")
    assert config.model.classes == ("cat", "dog")
    weight = model.state_dict()["head.coefficients.weight"]
    assert torch.equal(weight, state["module.bbox_head.conv_coeff.weight"].float())


def test_refusals() -> None:
    state = written()
    assert "missing tensors (1): bbox_head.conv_reg.bias" in refusal(without(state, "bbox_head.conv_reg.bias"))
    assert "missing tensors (1): mask_head.protonet.10.weight" in refusal(
        without(state, "mask_head.protonet.10.weight")
    )
    rows = {"bbox_head.conv_cls.weight": torch.zeros(242, 256, 3, 3)}
    assert "has 242 rows, expected 3 for each class and background" in refusal(state | rows)
    assert "unknown tensors (1): segm_head.segm_conv.bias" in refusal(state | {f"{OLD_SEMANTIC}bias": torch.zeros(80)})
    wide = {"bbox_head.conv_coeff.weight": torch.zeros(93, 256, 3, 3)}
    assert "bbox_head.conv_coeff.weight is [93, 256, 3, 3], expected [96, 256, 3, 3]" in refusal(state | wide)


def without(state: State, name: str) -> State:
    return {key: tensor for key, tensor in state.items() if key != name}


@pytest.mark.parametrize("prefix", ["", "module."])
def test_files_of_the_authors_are_refused(prefix: str) -> None:
    names = (
        "backbone.layers.0.0.conv1.weight",
        "proto_net.0.weight",
        "fpn.lat_layers.0.weight",
        "fpn.pred_layers.0.weight",
        "prediction_layers.0.bbox_layer.weight",
        "prediction_layers.0.mask_layer.bias",
        "semantic_seg_conv.weight",
    )
    text = refusal({prefix + name: torch.zeros(2) for name in names})
    assert "dbolya/yolact: it has square anchors and another pyramid, so its weights do not fit" in text


# --- the published files


def test_the_table_of_the_documentation() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(yolact-[\w-]+)` \| (\S+) \| ([\d.]+) million \| `(\S+)` \|", text, re.MULTILINE)
    expected = []
    for name in NAMES:
        checkpoint = find_checkpoint(name)
        assert checkpoint is not None
        count = outline(expected_config(checkpoint)).parameters["total"]
        expected.append((name, f"{checkpoint.mask_ap / 100:.3f}", f"{count / 1e6:.1f}", checkpoint.file))
    assert rows == expected


@pytest.mark.parametrize(
    ("name", "batch", "rate", "warmup"), [("yolact-r50", 8, 1e-3, 500), ("yolact-r50-8x8", 64, 8e-3, 1000)]
)
def test_published_schedule(name: str, batch: int, rate: float, warmup: int) -> None:
    config = load_recipe(name)
    run = config.train.model_copy(update={"iterations": 55_000})
    assert (run.epochs, run.batch_size, run.lr, run.weight_decay, run.decay_norms) == (55, batch, rate, 5e-4, True)
    assert (lr_factor(0, run), lr_factor(warmup, run)) == (pytest.approx(0.1), 1)
    for drop, epoch in enumerate((20, 42, 49, 52), start=1):
        assert lr_factor(1000 * epoch - 1, run) == pytest.approx(0.1 ** (drop - 1))
        assert lr_factor(1000 * epoch + 1, run) == pytest.approx(0.1**drop)
    assert (config.detect.candidates_per_level, config.detect.nms_threshold, config.detect.max_detections) == (
        1000,
        0.5,
        100,
    )
    assert (config.loss.box_weight, config.loss.mask_weight, config.targets.max_mask_positives) == (1.5, 6.125, 100)


@pytest.mark.skipif(not SPEC.is_file(), reason=f"the specification is not at {SPEC}")
@pytest.mark.parametrize(("name", "title"), NAMES.items())
def test_names_and_places(name: str, title: str) -> None:
    checkpoint = find_checkpoint(name)
    assert checkpoint is not None
    assert checkpoint == CATALOGUE[f"mmdetection/{title}"]
    assert (checkpoint.short, checkpoint.recipe, checkpoint.about["licence"]) == (name, name, "Apache-2.0")
    assert checkpoint.file.endswith(f"-{checkpoint.sha256}.pth")
    text = SPEC.read_text()
    assert f"`{checkpoint.address.removeprefix('https://download.openmmlab.com/mmdetection/v2.0/')}`" in text
    (row,) = (line for line in text.splitlines() if line.startswith("| YOLACT R-50 batch 8"))
    assert str(checkpoint.mask_ap) in row


def test_a_file_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error says where to place the file by hand, and such a file is found."""
    monkeypatch.setenv("CONDINST_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    checkpoint = find_checkpoint("yolact-r50")
    assert checkpoint is not None
    with pytest.raises(ModelError) as caught:
        obtain(checkpoint)
    text = str(caught.value)
    assert "\n" not in text
    assert "download it by hand and save it as" in text
    place = Path(text.split("save it as ")[1].split(",")[0])
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"")
    assert obtain(checkpoint) == place

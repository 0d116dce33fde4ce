"""Pickled files of other programs: read as data, never run, refused in one line."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from condinst.errors import ModelError
from condinst.weights.catalogue import BY_FILE, CATALOGUE
from condinst.weights.fetch import digest
from condinst.weights.folder import load_model
from condinst.weights.published import mmdetection
from condinst.weights.published.pth import read_foreign

Written = Callable[..., dict[str, Tensor]]


class Trap:
    """Unpickling it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.fixture(scope="module")
def state(written: Written) -> dict[str, Tensor]:
    """As mmdetection would write it for two classes."""
    return written(mmdetection.LAYOUT) | {"bbox_head.conv_reg.bias": torch.tensor([1.0, 2, 3, 4])}


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        read_foreign(path)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert "\n" not in text
    return text


def test_checkpoint_with_an_optimizer_and_class_names(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "epoch_1.pth"
    notes = {"dataset_meta": {"CLASSES": ("cell", "fibre")}, "epoch": 1}
    torch.save({"state_dict": state, "meta": notes, "optimizer": {"state": {0: torch.ones(3)}, "lr": 0.1}}, path)
    model, config = load_model(path)
    assert config.model.classes == ("cell", "fibre")
    assert model.head.distances.bias.tolist() == [1, 2, 3, 4]
    assert not model.training


def test_training_checkpoint_with_the_log_that_mmdetection_keeps(
    state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its classes are not there when the file is read, and are not asked for."""
    module = ModuleType("mmengine.logging.history_buffer")
    buffer = type("HistoryBuffer", (), {"__module__": module.__name__})
    module.HistoryBuffer = buffer  # type: ignore[attr-defined]
    log = buffer()
    log._log_history, log._max_length = np.arange(5.0), 1_000_000  # type: ignore[attr-defined]
    log.last = np.float64(0.5)  # type: ignore[attr-defined]
    path = tmp_path / "iter_1000.pth"
    with monkeypatch.context() as patch:
        for name in ("mmengine", "mmengine.logging", module.__name__):
            patch.setitem(sys.modules, name, module)
        torch.save({"state_dict": state, "message_hub": {"log_scalars": {"train/loss": log}}, "optimizer": {}}, path)
    assert read_foreign(path).tensors["head.distances.bias"].tolist() == [1, 2, 3, 4]
    assert "mmengine" not in sys.modules
    torch.save({"state_dict": state | {"neck.extra": np.zeros(3)}}, path)
    assert "'neck.extra' is not a tensor" in refusal(path)


@pytest.mark.parametrize("classes", [5, torch.zeros(2), "ab", [1, 2], {"a": 1, "b": 2}])
def test_class_names_that_are_none(classes: Any, state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({"state_dict": state, "meta": {"classes": classes}}, tmp_path / "model.pth")
    assert "meta.classes is not a list of names" in refusal(tmp_path / "model.pth")


def test_class_names_twice_and_no_notes(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"state_dict": state, "meta": {"classes": ["a", "a"]}}, path)
    assert "holds a name twice" in refusal(path)
    for meta in (None, 3, {"classes": None, "CLASSES": ["x", "y"]}, {"dataset_meta": 1}):
        torch.save({"state_dict": state, "meta": meta}, path)
        expected = ("x", "y") if isinstance(meta, dict) and "CLASSES" in meta else ("class 0", "class 1")
        assert read_foreign(path).config.model.classes == expected


def test_plain_state_dict(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "model.pth")
    assert read_foreign(tmp_path / "model.pth").config.about["origin"] == "mmdetection"


@pytest.mark.parametrize("place", ["beside the weights", "as the weights"])
def test_nothing_in_a_malicious_file_runs(place: str, tmp_path: Path) -> None:
    path, made = tmp_path / "model.pth", tmp_path / "made"
    trap = (
        {"model": {"w": torch.zeros(1)}, "hook": Trap(made)} if place == "beside the weights" else {"model": Trap(made)}
    )
    torch.save(trap, path)
    assert "nothing in it was run" in refusal(path)
    path.write_bytes(pickle.dumps(trap))
    assert "nothing in it was run" in refusal(path)
    assert not made.exists()


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"model": {"w": torch.zeros(1000)}}, path)
    whole = path.read_bytes()
    for content in (b"", b"not a pickle at all", whole[: len(whole) // 2], whole[: len(whole) - 30]):
        path.write_bytes(content)
        assert "damaged" in refusal(path)
    assert "cannot be read" in refusal(tmp_path / "missing.pth")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1, 2], "holds a list, expected a mapping"),
        ({}, "it is empty"),
        ({"epoch": 3}, "'epoch' is not a tensor"),
        ({"model": {"w": "text"}}, "'w' is not a tensor"),
        ({"model": {"1": torch.zeros(1), 1: torch.zeros(1)}}, "'1' is not a tensor"),
        ({"model": {"fc.weight": torch.zeros(1)}}, "not a CondInst"),
    ],
)
def test_other_content(content: Any, words: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model.pth")
    assert words in refusal(tmp_path / "model.pth")


def test_prefix_of_parallel_training_half_precision_and_another_number_of_classes(
    written: Written, tmp_path: Path
) -> None:
    state = written(mmdetection.LAYOUT, classes=("a", "b", "c"))
    state["bbox_head.controller.bias"] = torch.arange(169.0)
    torch.save({f"module.{name}": tensor.half() for name, tensor in state.items()}, tmp_path / "model.pth")
    model, config = load_model(tmp_path / "model.pth")
    assert config.model.classes == ("class 0", "class 1", "class 2")
    assert model.head.controller.bias.tolist() == list(range(169))
    assert model.head.controller.bias.dtype == torch.float32


def test_a_published_file_is_known_by_its_name_and_checksum(
    state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = CATALOGUE["mmdetection/boxinst_r50_fpn_ms-90k_coco"]
    path = tmp_path / checkpoint.file
    torch.save(state, path)
    assert "box AP" not in load_model(path)[1].about
    monkeypatch.setitem(BY_FILE, checkpoint.file, checkpoint._replace(sha256=digest(path)[:8]))
    config = load_model(path)[1]
    assert config.about["box AP"].startswith("0.396")
    targets = config.targets  # which no tensor tells
    assert (targets.supervision, targets.mask_sampling, targets.max_mask_positives) == ("boxes", "best_per_image", 64)
    assert config.model.mask_head.width == 8  # as in the file, not as in the recipe

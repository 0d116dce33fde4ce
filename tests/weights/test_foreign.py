"""Pickled files of other programs: read as data, never run, refused in one line."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from condinst.errors import ModelError
from condinst.model.condinst import CondInst
from condinst.weights import mmdetection
from condinst.weights.folder import load_model
from condinst.weights.foreign import read_foreign


class Trap:
    """Unpickling it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """As mmdetection would write it for two classes."""
    layout = mmdetection.LAYOUT
    config = layout.settings.with_overrides(["model.classes=[a, b]"])
    with torch.device("meta"):
        own = CondInst(config.model).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in own.items()}
    found = {}
    for name, shape in shapes.items():
        sources = layout.source_names(name)
        found |= {
            source: torch.zeros((), dtype=own[name].dtype).expand(shape[len(sources) > 1 :]) for source in sources
        }
    found["bbox_head.conv_reg.bias"] = torch.tensor([1.0, 2, 3, 4])
    return found


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
        ({"epoch": 3}, "'epoch' is no tensor"),
        ({"model": {"w": "text"}}, "'w' is no tensor"),
        ({"model": {"fc.weight": torch.zeros(1)}}, "not a CondInst"),
    ],
)
def test_other_content(content: Any, words: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model.pth")
    assert words in refusal(tmp_path / "model.pth")

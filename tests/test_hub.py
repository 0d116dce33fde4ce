"""The network with its settings: saved, loaded by every kind of name, pushed to a hub on this machine."""

from __future__ import annotations

import copy
import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from torch import Tensor

import condinst
from condinst.config import Config
from condinst.errors import CondinstError, ModelError
from condinst.hub import CondInst, RTMDetIns
from condinst.model.condinst import CondInst as Network
from condinst.predictor import Predictor
from condinst.recipes import load_recipe
from condinst.weights.catalogue import CATALOGUE
from condinst.weights.folder import load_model
from condinst.weights.published import adelaidet

Web = Any  # the server of tests/conftest.py
SETTINGS = Config.from_dict(
    {
        "about": {"licence": "MIT", "box AP": "0.10"},
        "model": {
            "classes": ["cell", "fibre"],
            "backbone": {"name": "mobilenetv2_050"},
            "fpn_channels": 32,
            "head": {"convs": 1, "channels": 64},
            "mask_branch": {"convs": 1, "channels": 16},
        },
        "input": {"shorter": 64, "longer": 96},
    }
)


@pytest.fixture(scope="module")
def model() -> CondInst:
    torch.manual_seed(0)
    return CondInst(SETTINGS).eval()


def same(one: Network, other: Network) -> bool:
    states = other.state_dict()
    return all(torch.equal(states[name], tensor) for name, tensor in one.state_dict().items())


def test_public_name() -> None:
    assert condinst.CondInst is CondInst


def test_rtmdet_ins(tmp_path: Path, model: CondInst) -> None:
    """It has a class of its own. A model of the other method is named in one line, with the class that loads it."""
    assert condinst.RTMDetIns is RTMDetIns
    recipe = load_recipe("rtmdet-ins-tiny")
    settings = recipe.model_copy(update={"model": recipe.model.model_copy(update={"classes": ("cell",)})})
    with torch.no_grad():
        mine = RTMDetIns(settings).eval()
    mine.save_pretrained(tmp_path / "rtmdet")
    model.save_pretrained(tmp_path / "condinst")
    loaded = RTMDetIns.from_pretrained(tmp_path / "rtmdet")
    assert type(loaded) is RTMDetIns
    assert loaded.settings == settings
    assert not loaded.training
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in mine.state_dict().items())
    assert len(Predictor.from_model(loaded, loaded.settings, "cpu")(np.zeros((64, 64, 3), np.uint8))) == 0
    for kind, place, words in (
        (CondInst, "rtmdet", "an RTMDet-Ins, not a CondInst; use condinst.RTMDetIns, or condinst.Predictor"),
        (RTMDetIns, "condinst", "a CondInst, not an RTMDet-Ins; use condinst.CondInst, or condinst.Predictor"),
    ):
        with pytest.raises(ModelError, match=words) as caught:
            kind.from_pretrained(tmp_path / place)
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="settings: an RTMDet-Ins, not a CondInst"):
        CondInst(settings)


@pytest.mark.parametrize(
    ("kind", "recipe", "another"),
    [
        (condinst.SOLO, "solo-r50-1x", condinst.SOLOv2),
        (condinst.DecoupledSOLO, "decoupled-solo-light-r50-3x", condinst.SOLO),
        (condinst.SOLOv2, "solov2-light-r18-3x", condinst.DecoupledSOLO),
    ],
)
def test_solo_family(kind: Any, recipe: str, another: Any, tmp_path: Path) -> None:
    """Each method has its class, which refuses the others in one line."""
    whole = load_recipe(recipe)
    model = whole.model.model_copy(
        update={
            "classes": ("cell",),
            "backbone": whole.model.backbone.model_copy(update={"name": "resnet18"}),
            "head": whole.model.head.model_copy(update={"channels": 32}),
            "fpn_channels": 32,
        }
    )
    settings = whole.model_copy(update={"model": model})
    mine = kind(settings).eval()
    mine.save_pretrained(tmp_path)
    loaded = kind.from_pretrained(tmp_path)
    assert (type(loaded), loaded.settings) == (kind, settings)
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in mine.state_dict().items())
    assert len(Predictor.from_model(loaded, loaded.settings, "cpu")(np.zeros((64, 64, 3), np.uint8))) == 0
    with pytest.raises(ModelError, match=rf"use condinst\.{kind.__name__}, or condinst\.Predictor") as caught:
        another.from_pretrained(tmp_path)
    assert "\n" not in str(caught.value)


def test_saved_and_loaded(model: CondInst, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["README.md", "config.yaml", "model.safetensors"]
    assert ModelCard.load(tmp_path / "README.md").data.license == "mit"
    for source in (tmp_path, str(tmp_path), tmp_path / "model.safetensors"):
        loaded = CondInst.from_pretrained(source)
        assert type(loaded) is CondInst
        assert same(loaded, model)
        assert loaded.settings == SETTINGS
        assert not loaded.training
    assert same(load_model(tmp_path)[0], model)


def test_a_card_of_ones_own_stays(model: CondInst, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    model.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_no_folder_to_save_into(model: CondInst, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CondinstError, match="cannot be written") as caught:
            model.save_pretrained(place)
        assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "mine"


def test_it_is_the_same_network(model: CondInst) -> None:
    """Nothing but the network's tensors in its state; copies and pickles keep the settings."""
    plain = Network(SETTINGS.model).eval()
    assert list(plain.state_dict()) == list(model.state_dict())
    plain.load_state_dict(model.state_dict())
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(plain(images).mask_features, model(images).mask_features)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    for other in (copy.deepcopy(model), torch.load(buffer, weights_only=False)):
        assert same(other, model)
        assert other.settings == SETTINGS


def test_shipped_model_predicts() -> None:
    model = CondInst.from_pretrained("nuclei")
    picture = np.random.default_rng(0).integers(0, 255, (64, 80, 3), np.uint8)
    found = Predictor.from_model(model, model.settings, "cpu")(picture)
    expected = Predictor("nuclei", "cpu", conf=None)(picture)
    assert torch.equal(torch.as_tensor(found.boxes.conf), torch.as_tensor(expected.boxes.conf))


def test_published_model_from_the_hub(
    hub: Web, written: Callable[..., dict[str, Tensor]], monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = CATALOGUE["adelaidet/CondInst_MS_R_50_1x"]
    state = written(adelaidet.FPN_LAYOUT, classes=tuple(f"c{label}" for label in range(80)))
    state["controller.bias"] = torch.arange(169.0)
    buffer = io.BytesIO()
    torch.save({"model": state}, buffer)
    fake = checkpoint._replace(sha256=hashlib.sha256(buffer.getvalue()).hexdigest())
    monkeypatch.setattr("condinst.weights.names.find_checkpoint", {checkpoint.name: fake}.get)
    hub.publish(checkpoint.place, {checkpoint.file: buffer.getvalue()})
    model = CondInst.from_pretrained(checkpoint.name)
    assert model.head.controller.bias.tolist() == list(range(169))
    assert model.settings.model.classes[:2] == ("person", "bicycle")
    assert model.settings.about["box AP"].startswith("0.397 on COCO val2017")
    assert capsys.readouterr().err.count("non-commercial") == 1
    asked = len(hub.asked)
    Predictor(checkpoint.name, "cpu")
    assert len(hub.asked) == asked
    assert capsys.readouterr().err == ""


def test_pushed_and_loaded_from_the_hub(model: CondInst, hub: Web) -> None:
    address = model.push_to_hub("me/cells", token="hf_x", commit_message="first")
    assert "/me/cells/commit/" in address
    assert sorted(hub.pushed) == ["README.md", "config.yaml", "model.safetensors"]
    assert "license: mit" in hub.pushed["README.md"].decode()
    assert ("POST", "/api/repos/create", None) in hub.asked
    hub.publish("me/cells", hub.pushed)
    loaded = CondInst.from_pretrained("me/cells")
    assert same(loaded, model)
    assert loaded.settings == SETTINGS
    assert not any("config.json" in path for _, path, _ in hub.asked)


def test_names_that_mean_nothing(hub: Web) -> None:
    for name, words in {
        "nucleii": "did you mean 'nuclei'",
        "adelaidet/CondInst_MS_R_50_2x": "did you mean",
        "nobody/nothing": "no such repository",
    }.items():
        with pytest.raises(ModelError, match=words):
            CondInst.from_pretrained(name)
    with pytest.raises(ModelError, match="local_files_only is set"):
        CondInst.from_pretrained("me/cells", local_files_only=True)

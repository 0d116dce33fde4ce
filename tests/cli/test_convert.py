"""`condinst convert`: a published program's file becomes a folder that --model takes."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from torch import Tensor
from typer.testing import Result

from condinst.weights.catalogue import CATALOGUE
from condinst.weights.folder import load_model
from condinst.weights.published import adelaidet, mmdetection

Run = Callable[..., Result]
State = dict[str, Tensor]
Web = Any  # the server of tests/conftest.py


@pytest.fixture(scope="module")
def published(written: Callable[..., State], tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = written(mmdetection.LAYOUT) | {"bbox_head.controller.bias": torch.arange(169.0)}
    path = tmp_path_factory.mktemp("published") / "model.pth"
    torch.save({"state_dict": state, "optimizer": {"lr": 0.1, "state": {0: torch.ones(3)}}}, path)
    return path


def test_folder(run: Run, published: Path, tmp_path: Path) -> None:
    outcome = run("convert", published, tmp_path / "model", "--half")
    assert outcome.exit_code == 0, outcome.output
    for word in ("resnet50", "2 classes", "mmdetection", "licence", "Apache-2.0"):
        assert word in outcome.stdout
    model, config = load_model(tmp_path / "model")
    assert model.head.controller.bias.tolist() == list(range(169))
    assert config.detect.score_root is False
    assert config.model.classes == ("class 0", "class 1")
    assert (tmp_path / "model" / "model.safetensors").stat().st_size < 80e6  # 34 million numbers in 16 bit
    card = ModelCard.load(tmp_path / "model" / "README.md")
    assert card.data.library_name == "condinst"
    assert "Classes (2): class 0, class 1" in card.text


def test_published_name(run: Run, written: Callable[..., State], hub: Web, tmp_path: Path, monkeypatch: Any) -> None:
    """Fetched, its licence said, and kept in the folder's settings and card."""
    checkpoint = CATALOGUE["adelaidet/CondInst_MS_R_50_1x"]
    torch.save({"model": written(adelaidet.FPN_LAYOUT)}, tmp_path / "file.pth")
    content = (tmp_path / "file.pth").read_bytes()
    hub.publish(checkpoint.place, {checkpoint.file: content})
    fake = checkpoint._replace(sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setattr("condinst.weights.names.find_checkpoint", {checkpoint.name: fake}.get)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    outcome = run("convert", checkpoint.name, tmp_path / "made", "--half")
    assert outcome.exit_code == 0, outcome.output
    assert outcome.stderr.startswith(f"licence of {checkpoint.name}: non-commercial use only")
    assert outcome.stderr.count("\n") == 1
    config = load_model(tmp_path / "made")[1]
    assert config.about["name"] == checkpoint.name
    assert config.about["mask AP"].startswith("0.357")
    card = ModelCard.load(tmp_path / "made" / "README.md")
    assert (card.data.license, card.data.license_name) == ("other", "non-commercial")


def test_shipped_model(run: Run, model_folder: Path, tmp_path: Path) -> None:
    """Whatever --model takes; a model of one's own says nothing of its origin."""
    outcome = run("convert", model_folder, tmp_path / "made")
    assert outcome.exit_code == 0, outcome.output
    assert "mobilenetv2_050, 1 classes" in outcome.stdout
    assert "licence: CC0" in outcome.stdout


def refusal(outcome: Result) -> str:
    assert outcome.exit_code == 2, outcome.output
    assert outcome.stderr.count("\n") == 1
    return outcome.stderr


@pytest.mark.parametrize("name", ["thesis.txt", "README.md", "config.yaml", "model.safetensors"])
def test_a_folder_with_other_files_is_left_alone(name: str, run: Run, model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("mine")
    text = refusal(run("convert", model_folder, tmp_path / "mine"))
    assert "has files but no model; choose a new or empty folder" in text
    assert [path.read_text() for path in (tmp_path / "mine").iterdir()] == ["mine"]
    assert "choose another one" in refusal(run("convert", model_folder, tmp_path / "mine" / name))


def test_a_model_is_replaced_but_not_a_card_of_ones_own(run: Run, model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    for _ in range(2):
        assert run("convert", model_folder, tmp_path / "made").exit_code == 0
    before = (tmp_path / "made" / "model.safetensors").stat().st_mtime_ns
    for text in ("# My notes\nlibrary_name: condinst\n", "---\nlibrary_name: timm\n---\n", ""):
        (tmp_path / "made" / "README.md").write_text(text)
        assert "README.md: condinst did not write this file" in refusal(run("convert", model_folder, tmp_path / "made"))
        assert (tmp_path / "made" / "README.md").read_text() == text
    assert (tmp_path / "made" / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize(("content", "reason"), [(b"no model", "damaged"), (b"", "the file is empty")])
def test_bad_file(content: bytes, reason: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "model.pth").write_bytes(content)
    outcome = run("convert", tmp_path / "model.pth", tmp_path / "out")
    assert outcome.exit_code == 4
    assert outcome.stderr.count("\n") == 1
    assert reason in outcome.stderr
    assert not (tmp_path / "out").exists()


def test_truncated_file_and_file_of_another_model(run: Run, published: Path, tmp_path: Path) -> None:
    whole = published.read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    torch.save({"model": {"roi_heads.box_head.fc1.weight": torch.zeros(2, 2)}}, tmp_path / "other.pth")
    torch.save({"state_dict": {"bbox_head.conv_cls.weight": torch.zeros(2, 2, 3, 3)}}, tmp_path / "part.pth")
    for name, word in {"cut": "damaged", "other": "not a CondInst", "part": "missing tensor"}.items():
        outcome = run("convert", tmp_path / f"{name}.pth", tmp_path / "out")
        assert outcome.exit_code == 4
        assert word in outcome.stderr
        assert outcome.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_what_does_not_fit_is_listed(run: Run, written: Callable[..., State], tmp_path: Path) -> None:
    state = written(mmdetection.LAYOUT)
    gone = [name for name in state if name.startswith("bbox_head.cls_convs")][:7]
    for name in gone:
        del state[name]
    state["roi_head.extra"] = torch.zeros(1)
    state["bbox_head.conv_reg.bias"] = torch.zeros(5)
    torch.save({"state_dict": state}, tmp_path / "model.pth")
    outcome = run("convert", tmp_path / "model.pth", tmp_path / "out")
    assert outcome.exit_code == 4
    assert f"missing tensors (7): {', '.join(gone)}" in outcome.stderr
    assert "unknown tensors (1): roi_head.extra" in outcome.stderr
    assert "bbox_head.conv_reg.bias is [5], expected [4]" in outcome.stderr


def test_offline(run: Run, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("CONDINST_OFFLINE", "1")
    outcome = run("convert", "adelaidet/CondInst_MS_R_50_3x", tmp_path / "out")
    assert outcome.exit_code == 4
    assert outcome.stderr.count("\n") == 1
    for word in ("CondInst_MS_R_50_3x.pth", "CONDINST_OFFLINE is set"):
        assert word in outcome.stderr

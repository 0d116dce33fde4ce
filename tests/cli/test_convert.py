"""`condinst convert`: a published program's file becomes a folder that --model takes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import Result

from condinst.model.condinst import CondInst
from condinst.weights import mmdetection
from condinst.weights.folder import load_model

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    layout = mmdetection.LAYOUT
    config = layout.settings.with_overrides(["model.classes=[a, b]"])
    with torch.device("meta"):
        own = CondInst(config.model).state_dict()
    state = {}
    for name, tensor in own.items():
        shape = tuple(tensor.shape) if name != "head.scales" else ()
        state |= {source: torch.zeros((), dtype=tensor.dtype).expand(shape) for source in layout.source_names(name)}
    state["bbox_head.controller.bias"] = torch.arange(169.0)
    path = tmp_path_factory.mktemp("published") / "model.pth"
    torch.save({"state_dict": state, "optimizer": {"lr": 0.1}}, path)
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


def test_bad_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "model.pth").write_bytes(b"no model")
    outcome = run("convert", tmp_path / "model.pth", tmp_path / "out")
    assert outcome.exit_code == 4
    assert outcome.stderr.count("\n") == 1
    assert "damaged" in outcome.stderr
    assert not (tmp_path / "out").exists()

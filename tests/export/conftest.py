"""A small model with random weights, and the programs that `condinst export` makes from it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from filelock import FileLock
from typer.testing import CliRunner, Result

from condinst.cli.main import app
from condinst.config import Config
from condinst.data.sample import Array8
from condinst.export import folder
from condinst.export.names import Notes
from condinst.model.condinst import CondInst
from condinst.weights.folder import save_model

Run = Callable[..., Result]

# Three classes, a backbone with "same" padding, fewer candidates than a large picture has
TINY: dict[str, Any] = {
    "about": {"licence": "CC0"},
    "model": {
        "classes": ["nucleus", "spore", "hypha"],
        "backbone": {"name": "mobilenetv2_035", "same_padding": True, "frozen_stages": 0},
        "fpn_channels": 16,
        "head": {"convs": 1, "channels": 32},
        "mask_branch": {"convs": 1, "channels": 16},
    },
    "input": {"shorter": 96, "longer": 160},
    "detect": {"max_detections": 20, "candidates_per_level": 60},
}


def make_model(config: Config, seed: int = 0) -> CondInst:
    """Random weights whose scores are high, whose boxes overlap and whose masks have both signs."""
    torch.manual_seed(seed)
    model = CondInst(config.model).eval()
    with torch.no_grad():
        model.head.class_logits.weight.normal_(std=0.15)
        model.head.class_logits.bias.fill_(-2.0)
        model.head.centerness.weight.normal_(std=0.1)
        model.head.distances.bias.fill_(1.5)
        model.head.controller.weight.normal_(std=0.03)
    return model


def draw(height: int, width: int, seed: int = 0) -> Array8:
    """A picture of discs on a gradient, (height, width, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    picture = np.stack([x * 255 / width, y * 255 / height, np.full((height, width), 90.0)], axis=2)
    for _ in range(6):
        cx, cy, r = rng.integers(0, width), rng.integers(0, height), rng.integers(6, 24)
        picture[np.hypot(x - cx, y - cy) <= r] = rng.integers(0, 256, 3)
    return picture.astype(np.uint8)


@pytest.fixture(scope="session", autouse=True)
def made_once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[None]:
    """The ONNX program of a model is made once for all tests and processes, because it takes many seconds."""
    base = tmp_path_factory.getbasetemp()
    shelf = (base if worker_id == "master" else base.parent) / "onnx"
    shelf.mkdir(exist_ok=True)
    original = folder.to_onnx

    def to_onnx(model: CondInst, config: Config, notes: Notes, fixed: tuple[int, int] | None = None) -> onnx.ModelProto:
        parts = (config.model.model_dump_json(), config.detect.model_dump_json(), str((notes, fixed)))
        path = shelf / f"{hashlib.sha256(''.join(parts).encode()).hexdigest()[:24]}.onnx"
        with FileLock(f"{path}.lock"):
            if not path.exists():
                path.write_bytes(original(model, config, notes, fixed).SerializeToString())
        return onnx.load(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder, "to_onnx", to_onnx)
        yield


@pytest.fixture(scope="session")
def config() -> Config:
    return Config.from_dict(TINY)


@pytest.fixture(scope="session")
def model(config: Config) -> CondInst:
    return make_model(config)


@pytest.fixture(scope="session")
def model_folder(model: CondInst, config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model in PyTorch. No test writes here."""
    path = tmp_path_factory.mktemp("tiny") / "model"
    save_model(model, config, path)
    return path


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three picture files of different sizes."""
    from PIL import Image

    place = tmp_path_factory.mktemp("pictures")
    for seed, size in enumerate(((96, 130), (120, 90), (60, 60))):
        Image.fromarray(draw(*size, seed)).save(place / f"{seed}.png")
    return sorted(place.iterdir())


def invoke(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def run() -> Run:
    return invoke


def export(model: Path, out: Path, pictures: list[Path], *more: str) -> Result:
    """`condinst export`, compared on small pictures."""
    checks = [word for picture in pictures for word in ("--check", str(picture))]
    return invoke("export", "--model", model, "--out", out, *checks, *more)


@pytest.fixture(scope="session")
def onnx_folder(model_folder: Path, pictures: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an ONNX program, without weights for PyTorch. No test writes here."""
    out = tmp_path_factory.mktemp("programs") / "onnx"
    done = export(model_folder, out, pictures, "--format", "onnx")
    assert done.exit_code == 0, done.output
    return out


@pytest.fixture(scope="session")
def openvino_folder(model_folder: Path, pictures: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an OpenVINO program, without weights for PyTorch. No test writes here."""
    out = tmp_path_factory.mktemp("programs") / "openvino"
    done = export(model_folder, out, pictures, "--format", "openvino")
    assert done.exit_code == 0, done.output
    return out


@pytest.fixture
def both(model_folder: Path, openvino_folder: Path, tmp_path: Path) -> Path:
    """The model's folder with an OpenVINO program in it."""
    place = tmp_path / "both"
    shutil.copytree(model_folder, place)
    for name in ("model.xml", "model.bin"):
        shutil.copy(openvino_folder / name, place)
    return place

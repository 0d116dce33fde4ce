"""RTMDet-Ins as an exported program: other strides, no centerness, a square input, masks enlarged by plain bilinear."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from condinst.config import Config
from condinst.export.compare import prepare
from condinst.export.formats.example import make_example
from condinst.export.names import network_tensors
from condinst.inference.full_size import Placement, place_full
from condinst.model.rtmdet_ins import RTMDetIns
from condinst.predictor import Predictor
from condinst.sources.read import read_source
from condinst.weights.folder import save_model
from tests.export.conftest import Run, draw, export

TINY: dict[str, Any] = {
    "about": {"licence": "CC0"},
    "model": {
        "method": "rtmdet-ins",
        "classes": ["nucleus", "spore", "hypha"],
        "backbone": {"name": "mobilenetv2_035", "norm": "batch", "frozen_stages": 0},
        "pyramid": "pafpn",
        "fpn_channels": 16,
        "head": {"convs": 1, "channels": 16},
        "mask_branch": {"convs": 1, "channels": 16},
        "channel_order": "BGR",
        "pad_value": 114,
        "size_ranges": [],
        "coordinate_scales": [64, 128, 256],
    },
    "input": {"shorter": 96, "longer": 96, "letterbox": True, "resampling": "opencv"},
    "detect": {"max_detections": 20, "candidates_per_level": 60, "score_root": False, "exchange_scales": True},
    "targets": {"assigner": "dynamic"},
    "loss": {"classification": "quality_focal", "box": "clamped_giou"},
}


@pytest.fixture(scope="module")
def rtmdet() -> Config:
    return Config.from_dict(TINY)


@pytest.fixture(scope="module")
def rtmdet_folder(rtmdet: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with random weights, whose scores are high, whose boxes overlap and whose masks have both signs."""
    torch.manual_seed(0)
    model = RTMDetIns(rtmdet.model).eval()
    with torch.no_grad():
        for logits, distances, controller in zip(
            model.head.class_logits, model.head.distances, model.head.controller, strict=True
        ):
            logits.weight.normal_(std=3.0)
            logits.bias.fill_(0.5)
            distances.bias.fill_(1.5)
            controller.weight.normal_(std=0.3)
            controller.bias.normal_(std=0.3)
    path = tmp_path_factory.mktemp("rtmdet") / "model"
    save_model(model, rtmdet, path)
    return path


@pytest.mark.slow
def test_the_programs_find_the_same(
    rtmdet_folder: Path, rtmdet: Config, pictures: list[Path], tmp_path: Path, run: Run
) -> None:
    """The command compares the programs with the model, alone and as a batch, and fails above its limits."""
    for format, file in (("onnx", "model.onnx"), ("openvino", "model.xml")):
        out = tmp_path / format
        done = export(rtmdet_folder, out, pictures, "--format", format)
        assert done.exit_code == 0, done.output
        expected = Predictor(rtmdet_folder, "cpu", conf=0.1)
        found = Predictor(out / file, conf=0.1)
        for picture in pictures:
            mine, theirs = found(picture), expected(picture)
            assert len(mine) == len(theirs) > 3
            torch.testing.assert_close(mine.boxes.xyxy, theirs.boxes.xyxy, rtol=0, atol=1e-3)
            assert (mine.masks.data != theirs.masks.data).sum() <= 2
    assert "centerness_logits_p3" not in network_tensors(rtmdet.model)
    picture = tmp_path / "onnx" / "photo.png"
    Image.fromarray(draw(110, 140, 3)).save(picture)
    masks = run_example(tmp_path / "onnx", "photo.png")
    assert len(masks) == len(expected(picture, conf=0.5)) > 3
    for mask, one in zip(masks, expected(picture, conf=0.5), strict=True):
        assert (mask != one.masks.data[0].numpy()).mean() < 0.02  # the example's resize rounds differently


def run_example(folder: Path, picture: str) -> list[NDArray[np.bool_]]:
    """Run example.py of a folder, and return the masks that it writes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["example.py", picture])
        runpy.run_path("example.py")
        return [np.asarray(Image.open(f"mask_{k}.png")) for k in range(len(list(folder.glob("mask_*.png"))))]


@pytest.mark.parametrize("exchanged", [False, True])
@pytest.mark.parametrize("size", [(150, 200), (70, 300), (96, 96)])
def test_the_example_prepares_pictures_and_places_masks(
    rtmdet: Config, exchanged: bool, size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = rtmdet.with_overrides([f"detect.exchange_scales={str(exchanged).lower()}", "detect.mask_threshold=0.4"])
    (tmp_path / "example.py").write_text(make_example(config, False, None))
    picture = tmp_path / "photo.png"
    Image.fromarray(draw(*size)).save(picture)
    logits = torch.randn(1, 1, 12, 12, generator=torch.Generator().manual_seed(0)) * 3
    seen: list[NDArray[np.float32]] = []

    def run(_: None, feed: dict[str, Any]) -> tuple[Any, ...]:
        seen.append(feed["images"])
        return np.zeros((1, 1, 4)), np.ones((1, 1)), np.zeros((1, 1), int), np.ones(1, int), logits.numpy()

    answer = SimpleNamespace(InferenceSession=lambda _: SimpleNamespace(run=run))
    monkeypatch.setitem(sys.modules, "onnxruntime", answer)
    (mask,) = run_example(tmp_path, "photo.png")
    images = prepare([read_source(picture)], config)
    assert seen[0].shape == (1, 3, 96, 96)
    # Pillow's transform and OpenCV's resize may differ by one grey level
    assert np.abs(seen[0] - images.tensor.numpy()).max() < 1.01 / 57
    placement = Placement.of(images, 0, config)
    assert placement.exchanged == exchanged
    expected = place_full(logits[0], placement)[0].numpy()
    assert 0.2 < expected.mean() < 0.8
    assert (mask != expected).mean() < 1e-3

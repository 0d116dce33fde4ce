"""Files of YOLACT with formula weights, from the file and the picture to the masks, as mmdetection predicts them.

The largest deviations of a test are its recorded properties.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from condinst.cli.main import app
from condinst.inference.result import Result
from condinst.predictor import Predictor
from condinst.weights.published.yolact import OLD_SEMANTIC, SEMANTIC
from tests.parity.yolact_formula import fill

Note = Callable[[str, object], None]
PICTURE = "data/coco_mini/images/000000000790.jpg"


@pytest.fixture(scope="module")
def arrays(reference: Path) -> Any:
    return np.load(reference / "yolact" / "yolact__inference.npz")


@pytest.fixture(scope="module")
def picture(reference: Path) -> Path:
    path = reference.parent / PICTURE
    if not path.is_file():
        pytest.skip(f"the picture is not at {path}")
    return path


@pytest.fixture(scope="module")
def file(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As mmdetection 2 wrote it."""
    path = tmp_path_factory.mktemp("published") / "yolact.pth"
    state = {name.replace(SEMANTIC, OLD_SEMANTIC): tensor for name, tensor in fill(reference / "yolact").items()}
    torch.save({"meta": {"epoch": 55}, "state_dict": state}, path, _use_new_zipfile_serialization=False)
    return path


@pytest.fixture(scope="module")
def folder(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `condinst convert` makes of the file."""
    out = tmp_path_factory.mktemp("converted") / "model"
    outcome = CliRunner().invoke(app, ["convert", str(file), str(out)])
    assert outcome.exit_code == 0, outcome.output
    return out


def agree(result: Result, arrays: Any, note: Note) -> None:
    """The recorded detections, each the nearest box of its class."""
    boxes, scores, labels = (np.asarray(values) for values in (result.boxes.xyxy, result.boxes.conf, result.boxes.cls))
    apart = np.abs(boxes[None] - arrays["det_boxes_ori"][:, None]).max(-1)
    apart[labels[None] != arrays["det_labels"][:, None]] = np.inf
    rows = apart.argmin(1)
    assert sorted(rows) == list(range(len(result)))
    shape = arrays["det_masks_shape"]
    recorded = np.unpackbits(arrays["det_masks_bits"], axis=-1)[..., : shape[-1]].astype(bool)
    pixels = (np.asarray(result.masks.data)[rows] != recorded).sum((1, 2))
    found = {
        "boxes": float(apart.min(1).max()),
        "scores": float(np.abs(scores[rows] - arrays["det_scores"]).max()),
        "pixels of a mask": int(pixels.max()),
    }
    for name, value in found.items():
        note(name, value)
    assert found["boxes"] <= 1e-3
    assert found["scores"] <= 1e-4
    assert found["pixels of a mask"] <= 4


def test_a_file_predicts_as_mmdetection(file: Path, picture: Path, arrays: Any, record_property: Note) -> None:
    agree(Predictor(file, "cpu", conf=None, mode="exact")(picture), arrays, record_property)


def test_a_converted_file_predicts_as_mmdetection(
    folder: Path, picture: Path, arrays: Any, record_property: Note
) -> None:
    predictor = Predictor(folder, "cpu", conf=None, mode="exact")
    agree(predictor(picture), arrays, record_property)
    few = predictor(picture, max_detections=10)
    assert (len(few), float(few.boxes.conf.min())) == (10, pytest.approx(np.sort(arrays["det_scores"])[-10], abs=1e-5))


def test_two_pictures_at_once(folder: Path, picture: Path, arrays: Any, record_property: Note) -> None:
    """No padding: the results of a batch are those of each picture alone."""
    first, second = Predictor(folder, "cpu", conf=None, mode="exact").predict_batch([picture, picture])
    agree(first, arrays, record_property)
    agree(second, arrays, record_property)


def test_info_and_predict(file: Path, picture: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    outcome = runner.invoke(app, ["info", str(file)])
    assert outcome.exit_code == 0, outcome.output
    for words in ("35,293,711", "32 prototypes at stride 4", "550×550"):
        assert words in outcome.stdout
    outcome = runner.invoke(app, ["predict", str(picture), "--model", str(file), "--out", str(tmp_path / "found")])
    assert outcome.exit_code == 0, outcome.output

"""Files of RTMDet-Ins with formula weights, from the file to the masks in the picture, as mmdetection predicts them.

A detection is matched with the recorded one of the same class and the nearest box. The recorded properties of a test
are its largest deviations: pixels of boxes, scores, and differing pixels of all masks and of one.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from condinst.cli.main import app
from condinst.config import Config
from condinst.inference.result import Result
from condinst.predictor import Predictor
from condinst.recipes import load_recipe
from condinst.weights.classes import COCO_CLASSES
from condinst.weights.published.pth import read_foreign
from condinst.weights.published.rtmdet import source_names
from tests.parity.rtmdet_formula import SETS, formula, read_keys

Note = Callable[[str, object], None]
Arrays = dict[str, NDArray[Any]]
PICTURE = "data/coco_mini/images/000000000790.jpg"
BOXES, SCORES, ALL_MASKS, ONE_MASK = 0.15, 1e-3, 3000, 150


@pytest.fixture(scope="module")
def folder(reference: Path) -> Path:
    return reference / "rtmdet_ins"


def published(folder: Path, name: str) -> dict[str, Tensor]:
    """The state dict that mmdetection would publish, with all copies."""
    weights, state = SETS[name], {}
    keys = read_keys(folder)[weights.size]
    for key in keys:
        if key.alias is None:
            floats = key.total is not None
            state[key.name] = formula(key.name, key.shape, weights) if floats else torch.zeros((), dtype=torch.int64)
    return state | {key.name: state[key.alias] for key in keys if key.alias is not None}


def write(path: Path, state: dict[str, Tensor]) -> Path:
    """As the program writes it that gives its files this suffix."""
    if path.suffix == ".pth":
        torch.save({"meta": {"epoch": 300}, "state_dict": state}, path, _use_new_zipfile_serialization=False)
    else:
        torch.save({"model": {name.replace("bbox_head.", "head.", 1): value for name, value in state.items()}}, path)
    return path


def read(folder: Path, name: str) -> tuple[Arrays, NDArray[np.uint8], int]:
    """The recorded arrays, the picture (RGB) and the side of the input."""
    with np.load(folder / f"infer_{name}.npz") as file:
        arrays = dict(file)
    if name != "tiny_640":
        return arrays, np.ascontiguousarray(arrays["image"][:, :, ::-1]), 320
    path = folder.parents[1] / PICTURE
    if not path.is_file():
        pytest.skip(f"the picture is not at {path}")
    image = np.asarray(Image.open(path).convert("RGB"))
    if zlib.crc32(np.ascontiguousarray(image[:, :, ::-1])) != arrays["image_crc32"]:
        pytest.skip("this decoder of JPEG gives other pixels than the recorded ones")
    return arrays, image, 640


def agree(result: Result, arrays: Arrays, note: Note) -> None:
    """Compare with the recorded detections. Those that lie near a limit of score or rank may differ by one."""
    boxes, scores, labels = (np.asarray(values) for values in (result.boxes.xyxy, result.boxes.conf, result.boxes.cls))
    masks, recorded = np.asarray(result.masks.data), recorded_masks(arrays)
    height, width = recorded.shape[1:]
    free = set(range(len(boxes)))
    apart: list[tuple[float, float]] = []
    pixels: list[int] = []
    for at, box in enumerate(arrays["out.boxes"]):
        near = [mine for mine in free if labels[mine] == arrays["out.labels"][at]]
        gaps = {mine: (np.abs(boxes[mine] - box).max(), abs(scores[mine] - arrays["out.scores"][at])) for mine in near}
        mine = min(gaps, key=lambda mine: gaps[mine][0] / BOXES + gaps[mine][1] / SCORES, default=-1)
        if mine < 0 or gaps[mine][0] > BOXES:
            continue
        free.remove(mine)
        apart.append(gaps[mine])
        if at < len(recorded):
            wrong = (masks[mine, :height, :width] != recorded[at]).sum() + masks[mine, height:].sum()
            pixels.append(int(wrong + masks[mine, :height, width:].sum()))
    box, score = (float(max(values)) for values in zip(*apart, strict=True))
    found = {"boxes": box, "scores": score, "all masks": sum(pixels), "one mask": max(pixels)}
    found |= {"unmatched": len(arrays["out.boxes"]) - len(apart), "more": len(free)}
    for name, value in found.items():
        note(name, value)
    assert found["scores"] <= SCORES, found
    assert (found["all masks"] <= ALL_MASKS, found["one mask"] <= ONE_MASK) == (True, True), found
    assert max(found["unmatched"], found["more"]) <= 1, found


def recorded_masks(arrays: Arrays) -> NDArray[np.uint8]:
    """(n, h, w), of the first detections or of all."""
    key = "out.masks_packed" if "out.masks_packed" in arrays else "out.masks_packed_first20"
    _, height, width = arrays["out.masks_shape"]
    return np.unpackbits(arrays[key], axis=1)[:, : height * width].reshape(-1, height, width)


@pytest.mark.parametrize("name", ["tiny", "s", "tiny_640"])
def test_a_file_predicts_as_mmdetection(folder: Path, name: str, tmp_path: Path, record_property: Note) -> None:
    arrays, picture, side = read(folder, name)
    path = write(tmp_path / "model.pth", published(folder, name))
    predictor = Predictor(path, "cpu", conf=None, shorter=side, longer=side, mode="exact")
    agree(predictor(picture), arrays, record_property)


@pytest.mark.parametrize("name", ["tiny", "s"])
def test_a_mirror_is_the_same_model(folder: Path, name: str, tmp_path: Path) -> None:
    state = published(folder, name)
    files = [read_foreign(write(tmp_path / f"model{suffix}", state)) for suffix in (".pth", ".pt")]
    assert files[0].config == files[1].config
    assert files[0].tensors.keys() == files[1].tensors.keys()
    for own, tensor in files[1].tensors.items():
        assert torch.equal(tensor, files[0].tensors[own]), own
        assert torch.equal(tensor, state[source_names(own)[0]]), own


@pytest.mark.filterwarnings("ignore::condinst.PictureWarning")
def test_a_picture_that_is_much_wider_than_high(folder: Path, tmp_path: Path, record_property: Note) -> None:
    """mmdetection's masks end before the picture does; ours are empty from there on."""
    arrays, picture, side = read(folder, "tiny_thin")
    assert (picture.shape, tuple(arrays["out.masks_shape"][1:])) == ((6, 500, 3), (6, 480))
    path = write(tmp_path / "model.pth", published(folder, "tiny_thin"))
    result = Predictor(path, "cpu", conf=None, shorter=side, longer=side, mode="exact")(picture)
    assert result.masks.data.shape[1:] == (6, 500)
    agree(result, arrays, record_property)


def test_a_converted_file(folder: Path, tmp_path: Path, record_property: Note) -> None:
    """`condinst convert` writes the settings of the recipe, and the folder predicts as the file."""
    arrays, picture, side = read(folder, "tiny")
    path = write(tmp_path / "model.pth", published(folder, "tiny"))
    outcome = CliRunner().invoke(app, ["convert", str(path), str(tmp_path / "made")])
    assert outcome.exit_code == 0, outcome.output
    config, recipe = Config.from_yaml(tmp_path / "made" / "config.yaml"), load_recipe("rtmdet-ins-tiny")
    model = recipe.model.model_copy(update={"classes": COCO_CLASSES})
    assert config == recipe.model_copy(update={"model": model, "about": config.about})
    assert "RTMDet-Ins, arXiv 2212.07784" in (tmp_path / "made" / "README.md").read_text(encoding="utf-8")
    predictor = Predictor(tmp_path / "made", "cpu", conf=None, shorter=side, longer=side, mode="exact")
    agree(predictor(picture), arrays, record_property)

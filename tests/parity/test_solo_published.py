"""Files of the SOLO family with formula weights, from the file to the masks, as mmdetection predicts them.

A detection is matched with the recorded one of the same class and the nearest score. The recorded properties of a test
are its largest deviations.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from condinst.cli.main import app
from condinst.config import Config
from condinst.data.transforms import resize_image
from condinst.inference.result import Result
from condinst.predictor import Predictor
from condinst.weights.published.pth import read_foreign
from condinst.weights.published.solo import source_names
from tests.parity.solo_formula import GOLDEN, Arrays, config_of, load, published

Note = Callable[[str, object], None]
PICTURE = "data/coco_mini/images/000000000790.jpg"
SCORES, PIXELS = 1e-4, 4


def write(path: Path, reference: Path, name: str) -> Path:
    torch.save({"meta": {"epoch": 12}, "state_dict": published(reference, name)}, path)
    return path


@pytest.fixture(scope="module")
def picture(reference: Path) -> NDArray[np.uint8]:
    path = reference.parent / PICTURE
    if not path.is_file():
        pytest.skip(f"the picture is not at {path}")
    image = np.asarray(Image.open(path).convert("RGB"))
    if not np.array_equal(
        resize_image(image, 256, 388, "opencv"), load(reference, "solo", "inference")["image_rgb_u8"]
    ):
        pytest.skip("this decoder of JPEG gives other pixels than the recorded ones")
    return image


def agree(result: Result, recorded: Arrays, note: Note) -> None:
    scores, labels = np.asarray(result.boxes.conf), np.asarray(result.boxes.cls)
    masks = np.asarray(result.masks.data).astype(bool)
    width = recorded["det_masks_shape"][-1]
    expected = np.unpackbits(recorded["det_masks_bits"], axis=-1)[..., :width].astype(bool)
    free = set(range(len(scores)))
    apart, pixels, overlaps = [], [], []
    for label, score, mask in zip(recorded["det_labels"], recorded["det_scores"], expected, strict=True):
        near = [mine for mine in free if labels[mine] == label and abs(scores[mine] - score) <= SCORES]
        wrong = {mine: int((masks[mine] != mask).sum()) for mine in near}
        if not wrong:
            continue
        mine = min(wrong, key=lambda one: wrong[one])
        free.remove(mine)
        apart.append(abs(float(scores[mine] - score)))
        pixels.append(wrong[mine])
        overlaps.append(float((masks[mine] & mask).sum() / (masks[mine] | mask).sum()) if wrong[mine] else 1.0)
    found = {"scores": max(apart), "pixels of one mask": max(pixels), "smallest IoU": min(overlaps)}
    found |= {"unmatched": len(expected) - len(apart), "more": len(free)}
    for key, value in found.items():
        note(key, value)
    assert max(found["unmatched"], found["more"]) <= 1, found  # one candidate lies at the threshold
    assert all(wrong <= PIXELS or iou >= 0.998 for wrong, iou in zip(pixels, overlaps, strict=True)), found


@pytest.mark.parametrize(
    "name",
    [*(pytest.param(name, marks=pytest.mark.variant) for name in ("solo", "decoupled")), "decoupled_light", "solov2"],
)
def test_a_file_predicts_as_mmdetection(
    reference: Path, picture: NDArray[np.uint8], name: str, tmp_path: Path, record_property: Note
) -> None:
    path = write(tmp_path / "model.pth", reference, name)
    predictor = Predictor(path, "cpu", conf=None, shorter=256, longer=1333, mode="exact")
    agree(predictor(picture), load(reference, name, "inference"), record_property)


@pytest.mark.parametrize("name", GOLDEN)
def test_the_settings_are_read_off_the_file(reference: Path, name: str, tmp_path: Path) -> None:
    """Those of the recipe, but for the training, which the tensors do not tell."""
    found = read_foreign(write(tmp_path / "model.pth", reference, name))
    expected = config_of(name)
    for part in ("model", "input", "detect", "targets", "loss"):
        assert getattr(found.config, part) == getattr(expected, part), part
    assert all(
        torch.equal(tensor, published(reference, name)[source_names(own)[0]]) for own, tensor in found.tensors.items()
    )


def test_a_converted_file(reference: Path, picture: NDArray[np.uint8], tmp_path: Path, record_property: Note) -> None:
    """`condinst convert` writes the settings, and the folder predicts as the file."""
    path = write(tmp_path / "model.pth", reference, "solov2_light")
    outcome = CliRunner().invoke(app, ["convert", str(path), str(tmp_path / "made")])
    assert outcome.exit_code == 0, outcome.output
    assert Config.from_yaml(tmp_path / "made" / "config.yaml").model == config_of("solov2_light").model
    assert "SOLOv2, arXiv 2003.10152" in (tmp_path / "made" / "README.md").read_text(encoding="utf-8")
    predictor = Predictor(tmp_path / "made", "cpu", conf=None, shorter=256, longer=1333, mode="exact")
    agree(predictor(picture), load(reference, "solov2_light", "inference"), record_property)

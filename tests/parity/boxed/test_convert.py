"""Files of the published BlendMask and MEInst through `condinst convert`, `info` and the Predictor."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as oracle
from typer.testing import CliRunner

from condinst import Predictor, read_image
from condinst.cli.main import app
from tests.parity.boxed.formula import FOLDERS, REFERENCE, SKIP, state_of

VARIANT = pytest.mark.variant
pytestmark = SKIP
CASES = [
    pytest.param("BlendMask", "R_50_1x", id="blendmask"),
    pytest.param("BlendMask", "RT_R_50_4x_bn-head_syncbn_shtw", id="blendmask-rt", marks=VARIANT),
    pytest.param("MEInst", "MEInst_R_50_1x", id="meinst"),
]


@pytest.mark.parametrize(("method", "name"), CASES)
def test_convert_and_predict(method: str, name: str, tmp_path: Path) -> None:
    file, out = tmp_path / f"{name}.pth", tmp_path / "model"
    torch.save({"model": state_of(method, name)}, file)
    shown = CliRunner().invoke(app, ["info", str(file), "--json"])
    assert shown.exit_code == 0, shown.output
    assert ("base" in json.loads(shown.stdout)["mask_head"]) == (method == "BlendMask")
    converted = CliRunner().invoke(app, ["convert", str(file), str(out)])
    assert converted.exit_code == 0, converted.output
    recorded = json.loads((FOLDERS[method] / f"{name}__s256.json").read_text())
    arrays = np.load(FOLDERS[method] / f"{name}__s256.npz")
    picture = read_image(REFERENCE.parent / "data" / "coco_mini" / "images" / recorded["image"])
    for source in (out, file):
        result = Predictor(source, mode="exact")(picture, size=(256, 1333), conf=0.2)
        assert len(result) == recorded["results"][0]["n"]
        # scores lie closer together than rounding: match by class and box
        places = np.abs(result.boxes.xyxy.numpy()[:, None] - arrays["out0.boxes"]).max(axis=2)
        places += 1e3 * (result.boxes.cls.numpy()[:, None] != arrays["out0.classes"])
        rows = places.argmin(axis=0)
        assert sorted(rows) == list(range(len(result)))
        assert places[rows, np.arange(len(rows))].max() <= 2e-3
        assert np.abs(result.boxes.conf.numpy()[rows] - arrays["out0.scores"]).max() <= 1e-5
        pairs = zip(rows, recorded["results"][0]["rles"], strict=True)
        overlaps = [oracle.iou([dict(result.masks.rle[row])], [theirs], [0])[0, 0] for row, theirs in pairs]
        assert min(overlaps) >= 0.98
        assert np.mean(overlaps) >= 0.9995

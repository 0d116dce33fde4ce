"""BlendMask and MEInst from the command line on a few real images: train, measure, resume, predict, fine-tune."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

import condinst
from condinst.cli.main import app
from condinst.weights.folder import load_model
from tests.cli.test_train import NUCLEI, Run, error_of

METHODS = ("blendmask", "meinst")
RECIPES: dict[str, dict[str, Any]] = {
    "blendmask": {
        "base": "blendmask-550-r50-3x",
        "model": {
            "backbone": {"name": "resnet18", "stride_in_1x1": False},
            "fpn_channels": 16,
            "head": {"channels": 16, "shared_convs": 1, "convs": 1, "distance_prior": 2},
            "mask_branch": {"channels": 16, "convs": 1},
        },
    },
    "meinst": {
        "base": "meinst-r50-1x",
        "model": {
            "backbone": {"name": "resnet18", "stride_in_1x1": False},
            "fpn_channels": 16,
            "head": {"channels": 16, "convs": 2, "distance_prior": 2},
            "meinst": {"code": 8, "resolution": 14},
        },
    },
}
BRIEF = {
    "about": {"data": "nuclei", "command": "none"},
    "input": {"shorter": 96, "longer": 128},
    "augment": {"shorter": [96], "longer": 128},
    "train": {"init": "none", "iterations": 2, "batch_size": 2, "workers": 0, "warmup_iterations": 0},
}


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mask code of the nuclei."""
    path = tmp_path_factory.mktemp("code") / "code.npz"
    words = ("data", "mask-code", str(NUCLEI), "--out", str(path), "--numbers", "8", "--side", "14")
    outcome = CliRunner().invoke(app, words)
    assert outcome.exit_code == 0, outcome.output
    first, second, third = outcome.stdout.splitlines()
    assert first == f"{path}: 8 numbers for 14×14 masks, learned from 54 masks of {NUCLEI}"
    assert second.endswith("% of their variance")
    assert float(third.rpartition(" ")[2]) > 0.8
    return path


@pytest.fixture(scope="module", params=METHODS)
def recipe(request: pytest.FixtureRequest, code: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    values: dict[str, Any] = RECIPES[request.param] | BRIEF
    if request.param == "meinst":
        values["train"] = {**BRIEF["train"], "mask_code": str(code)}
    path = tmp_path_factory.mktemp("recipe") / f"{request.param}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_train_resume_measure_and_predict(run: Run, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ("train", "--data", NUCLEI, "--recipe", recipe, "--out", out)
    outcome = run(*words, "train.validate_every=1", "detect.max_detections=7")
    assert outcome.exit_code == 0, outcome.output
    config = load_model(out)[1]
    assert config.model.method == recipe.stem
    rows = (out / "log.csv").read_text().splitlines()
    losses = dict(zip(rows[0].split(","), rows[-1].split(","), strict=True))
    assert all(float(losses[term]) > 0 for term in ("classification", "box", "quality", "mask"))
    assert all(float(losses[term]) == 0 for term in ("projection", "pairwise"))
    assert (float(losses["semantic"]) > 0) == (recipe.stem == "blendmask")
    lines = [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [1, 2]
    longer = run(*words, "--resume", "train.iterations=3")
    assert longer.exit_code == 0, longer.output
    measured = run("val", "--model", out, "--data", NUCLEI)
    assert measured.exit_code == 0, measured.output
    predicted = run("predict", NUCLEI / "images", "--model", out, "--out", tmp_path / "found", "--conf", "0")
    assert predicted.exit_code == 0, predicted.output
    assert run("info", out).exit_code == 0
    assert run("convert", out, tmp_path / "copy").exit_code == 0
    refused = error_of(run("export", "--model", out, "--out", tmp_path / "program"), 2)
    assert f"model.method={recipe.stem} cannot be exported" in refused


def test_a_resumed_run_equals_an_uninterrupted_one(run: Run, recipe: Path, tmp_path: Path) -> None:
    """The batch norms' statistics and the draw of the soft labels included."""
    few = ("train.milestones=[1.0]", "train.checkpoint_every=1")
    words = ("train", "--data", NUCLEI, "--recipe", recipe, "--val", "none", *few)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(*words, "--out", whole, "train.iterations=4").exit_code == 0
    assert run(*words, "--out", parts, "train.iterations=2").exit_code == 0
    # the code is part of the checkpoint, so its file may be gone
    outcome = run(*words, "--out", parts, "--resume", "train.iterations=4", "train.mask_code=''")
    assert outcome.exit_code == 0, outcome.output
    one, other = (load_model(folder)[0].state_dict() for folder in (whole, parts))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_fine_tuning_brings_the_code(run: Run, recipe: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    outcome = run("train", "--data", NUCLEI, "--recipe", recipe, "--out", first, "--val", "none", "train.iterations=1")
    assert outcome.exit_code == 0, outcome.output
    plain = ("train.workers=0", "train.iterations=1", "train.precision=no", "train.batch_size=2", "train.accumulate=1")
    small = ("augment.shorter=[96]", "augment.longer=128", "augment.crop=0", "input.shorter=96")
    outcome = run("train", "--data", NUCLEI, "--from", first, "--out", second, "--val", "none", *plain, *small)
    assert outcome.exit_code == 0, outcome.output
    if recipe.stem == "meinst":
        codes = [load_model(folder)[0].state_dict()["mask_code.components"] for folder in (first, second)]
        torch.testing.assert_close(*codes, rtol=1e-3, atol=1e-4)  # the second model is saved in half precision
        assert codes[0].any()


def test_settings_of_a_call(run: Run, recipe: Path, tmp_path: Path) -> None:
    """As for CondInst: conf, iou, max_detections, classes; the masks lie in their boxes."""
    out = tmp_path / "run"
    words = ("train", "--data", NUCLEI, "--recipe", recipe, "--out", out, "--val", "none", "train.iterations=1")
    assert run(*words).exit_code == 0
    predictor = condinst.Predictor(out)
    picture = np.asarray(Image.open(next((NUCLEI / "images").iterdir())).convert("RGB"))
    every = predictor(picture, conf=0.001, max_detections=300)
    assert len(every) > 10
    scores = every.boxes.conf
    middle = float(scores.median())
    some = predictor(picture, conf=middle, max_detections=300)
    assert torch.equal(some.boxes.conf, scores[scores >= middle])
    assert 5 <= len(predictor(picture, conf=0.001, max_detections=5)) <= 300  # ties with the last one are kept
    assert len(predictor(picture, conf=0.001, iou=0.1, max_detections=300)) < len(every)
    assert len(predictor(picture, conf=0.001, classes=0, max_detections=300)) == len(every)  # the only class
    assert len(predictor(picture, conf=1)) == 0
    for mask, (x0, y0, x1, y1) in zip(every.masks.data, every.boxes.xyxy.tolist(), strict=True):
        rows, columns = mask.nonzero(as_tuple=True)
        if len(rows):
            assert rows.min() >= y0 - 1
            assert rows.max() <= y1 + 1
            assert columns.min() >= x0 - 1
            assert columns.max() <= x1 + 1
    fast = condinst.Predictor(out, mode="fast")(picture, conf=0.001, max_detections=300)
    assert len(fast) > 10


def test_data_check(run: Run, recipe: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(NUCLEI, data)
    outcome = run("data", "check", data, "--recipe", recipe, "--report", tmp_path / "page.html")
    assert outcome.exit_code in {0, 3}, outcome.output


def test_training_without_a_code(run: Run, code: Path, tmp_path: Path) -> None:
    """One line says what to do; and so it is for a file that does not fit."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({**RECIPES["meinst"], **BRIEF}))
    words = ("train", "--data", NUCLEI, "--recipe", recipe, "--out", tmp_path / "out", "--val", "none")
    assert "needs train.mask_code=FILE; `condinst data mask-code DATA" in error_of(run(*words), 2)
    other = error_of(run(*words, f"train.mask_code={code}", "model.meinst.code=9"), 2)
    assert "codes of 8 numbers for 14×14 masks; the model has model.meinst.code=9" in other
    assert "not readable as arrays" in error_of(run(*words, f"train.mask_code={recipe}"), 4)
    np.savez(tmp_path / "none.npz", a=np.zeros(3))
    assert "holds no mask code" in error_of(run(*words, f"train.mask_code={tmp_path / 'none.npz'}"), 4)


def test_refusals_of_the_code(run: Run, tmp_path: Path) -> None:
    words = ("data", "mask-code", NUCLEI, "--out")
    assert "the ending must be .npz" in error_of(run(*words, tmp_path / "code.txt"), 2)
    assert "needs more than 61 masks" in error_of(run(*words, tmp_path / "code.npz"), 3)
    assert "no test split" in error_of(run(*words, tmp_path / "code.npz", "--split", "test"), 3)
    assert not list(tmp_path.iterdir())

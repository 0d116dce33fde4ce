"""YOLACT from the command line on a few real images: train, measure, resume, predict, fine-tune; what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import condinst
from condinst.weights.folder import load_model
from tests.cli.test_train import NUCLEI, Run, error_of

RECIPE = {
    "base": "yolact-r50",
    "about": {"data": "nuclei", "command": "none"},
    "model": {
        "backbone": {"name": "resnet18"},
        "fpn_channels": 16,
        "head": {"channels": 16},
        "mask_branch": {"channels": 16, "features": 4},
    },
    "input": {"shorter": 96, "longer": 96},
    "augment": {"shorter": [96], "longer": 96, "min_side": 0},
    "train": {"init": "none", "iterations": 2, "epochs": None, "batch_size": 2, "workers": 0, "warmup_iterations": 0},
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    return path


def test_train_resume_measure_and_predict(run: Run, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ("train", "--data", NUCLEI, "--recipe", recipe, "--out", out)
    outcome = run(*words, "train.validate_every=1", "detect.max_detections=7")
    assert outcome.exit_code == 0, outcome.output
    model, config = load_model(out)
    assert type(model) is condinst.model.yolact.Yolact
    assert config.input.stretch
    rows = (out / "log.csv").read_text().splitlines()
    losses = dict(zip(rows[0].split(","), rows[-1].split(","), strict=True))
    assert all(float(losses[term]) > 0 for term in ("classification", "box", "mask", "semantic"))
    assert all(float(losses[term]) == 0 for term in ("quality", "projection", "pairwise"))
    lines = [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [1, 2]
    longer = run(*words, "--resume", "train.iterations=3")
    assert longer.exit_code == 0, longer.output
    measured = run("val", "--model", out, "--data", NUCLEI)
    assert measured.exit_code == 0, measured.output
    found = tmp_path / "found"
    predicted = run("predict", NUCLEI / "images", "--model", out, "--out", found, "--conf", "0")
    assert predicted.exit_code == 0, predicted.output
    shown = run("info", out)
    assert shown.exit_code == 0, shown.output
    assert "96×96" in shown.stdout
    refused = error_of(run("export", "--model", out, "--out", tmp_path / "program"), 2)
    assert "model.method=yolact cannot be exported" in refused


def test_a_resumed_run_equals_an_uninterrupted_one(run: Run, recipe: Path, tmp_path: Path) -> None:
    """The batch norms' statistics and the draw of the positives included."""
    few = ("targets.max_mask_positives=3", "train.milestones=[1.0]", "train.checkpoint_every=1")
    words = ("train", "--data", NUCLEI, "--recipe", recipe, "--val", "none", *few)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(*words, "--out", whole, "train.iterations=4").exit_code == 0
    assert run(*words, "--out", parts, "train.iterations=2").exit_code == 0
    assert run(*words, "--out", parts, "--resume", "train.iterations=4").exit_code == 0
    one, other = (load_model(folder)[0].state_dict() for folder in (whole, parts))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_fine_tuning_plans_and_keeps_the_size_of_the_input(run: Run, recipe: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    outcome = run("train", "--data", NUCLEI, "--recipe", recipe, "--out", first, "--val", "none", "train.iterations=1")
    assert outcome.exit_code == 0, outcome.output
    plain = ("train.workers=0", "train.iterations=1", "train.precision=no", "train.batch_size=2", "train.accumulate=1")
    outcome = run("train", "--data", NUCLEI, "--from", first, "--out", second, "--val", "none", *plain)
    assert outcome.exit_code == 0, outcome.output
    assert "input: 96×96 px" in outcome.stderr
    config = load_model(second)[1]
    assert (config.input.shorter, config.input.longer, config.augment.longer, config.augment.crop) == (96, 96, 96, 0)
    assert config.targets.mask_sampling == "random_per_image"


def test_settings_of_a_call(run: Run, recipe: Path, tmp_path: Path) -> None:
    """As for CondInst: conf, iou, max_detections, classes; the masks lie in their boxes."""
    out = tmp_path / "run"
    classes = ("train", "--data", NUCLEI, "--recipe", recipe, "--out", out, "--val", "none", "train.iterations=1")
    assert run(*classes).exit_code == 0
    predictor = condinst.Predictor(out)
    picture = np.asarray(Image.open(next((NUCLEI / "images").iterdir())).convert("RGB"))
    every = predictor(picture, conf=0.001, max_detections=300)
    assert len(every) > 20
    scores = every.boxes.conf
    middle = float(scores.median())
    some = predictor(picture, conf=middle, max_detections=300)
    assert torch.equal(some.boxes.conf, scores[scores >= middle])
    assert len(predictor(picture, conf=0.001, max_detections=5)) == 5
    assert len(predictor(picture, conf=0.001, iou=0.1, max_detections=300)) < len(every)
    assert len(predictor(picture, conf=0.001, classes=0, max_detections=300)) == len(every)  # the only class
    height, width = picture.shape[:2]
    assert every.boxes.xyxy.amin() >= 0
    assert (every.boxes.xyxy.amax(dim=0) <= torch.tensor([width, height, width, height])).all()
    margin = 2 * max(height, width) / (2 * 96 / 8)  # a cell of the prototypes, and half a cell for the resize
    for mask, (x0, y0, x1, y1) in zip(every.masks.data, every.boxes.xyxy.tolist(), strict=True):
        rows, columns = mask.nonzero(as_tuple=True)
        if len(rows):
            assert rows.min() >= y0 - margin
            assert rows.max() <= y1 + margin
            assert columns.min() >= x0 - margin
            assert columns.max() <= x1 + margin


def test_data_check(run: Run, recipe: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(NUCLEI, data)
    outcome = run("data", "check", data, "--recipe", recipe, "--report", tmp_path / "page.html")
    assert outcome.exit_code in {0, 3}, outcome.output
    assert "every picture becomes" in (tmp_path / "page.html").read_text()

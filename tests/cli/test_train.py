"""`condinst train` on a few real images: what it leaves behind, and what it refuses before training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import Result

from condinst.weights.folder import load_model

NUCLEI = Path(__file__).parent.parent / "data" / "nuclei"
Run = Callable[..., Result]

RECIPE = {
    "model": {
        "backbone": {"name": "mobilenetv2_050", "frozen_stages": 0},
        "fpn_channels": 32,
        "head": {"convs": 1, "channels": 64},
        "mask_branch": {"convs": 1, "channels": 16},
    },
    "input": {"shorter": 64, "longer": 96},
    "augment": {"shorter": [64], "longer": 96},
    "train": {"init": "none", "iterations": 2, "batch_size": 2, "workers": 0, "warmup_iterations": 0},
}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    return path


def error_of(outcome: Result, code: int) -> str:
    assert outcome.exit_code == code, outcome.output
    assert "Traceback" not in outcome.output
    lines = outcome.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_train_then_use_then_resume(run: Run, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ("train", "--data", NUCLEI, "--recipe", recipe, "--out", out)
    outcome = run(*words, "train.validate_every=1", "detect.max_detections=7")
    assert outcome.exit_code == 0, outcome.output
    model, config = load_model(out)
    assert config.model.classes == tuple(
        c["name"] for c in json.loads((NUCLEI / "train.json").read_text())["categories"]
    )
    assert not model.training
    lines = [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]
    assert [(line["iteration"], line["max_detections"]) for line in lines] == [(1, 7), (2, 7)]
    assert "mask AP" in outcome.stderr
    assert str(out) in outcome.stdout.replace("\n", "")

    again = run(*words)
    assert "--resume" in error_of(again, 2)
    longer = run(*words, "--resume", "train.iterations=3")
    assert longer.exit_code == 0, longer.output
    assert (out / "log.csv").read_text().count("\n") >= 2


def test_without_validation(run: Run, recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    shutil.copy(NUCLEI / "train.json", tmp_path / "data")
    words = ("--data", tmp_path / "data", "--images", NUCLEI / "images", "--recipe", recipe)
    outcome = run("train", *words, "--out", tmp_path / "run", "train.iterations=1")
    assert outcome.exit_code == 0, outcome.output
    assert not (tmp_path / "run" / "scores.jsonl").exists()


def test_refusals(run: Run, recipe: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "run")
    data = ("--data", NUCLEI)
    assert "expected key=value" in error_of(run("train", *data, *out, "--recipe", recipe, "fast"), 2)
    assert "did you mean 'lr'" in error_of(run("train", *data, *out, "--recipe", recipe, "train.lrr=1"), 2)
    assert "train.iterations" in error_of(run("train", *data, *out, "--recipe", recipe, "train.iterations=0"), 2)
    assert "no such name or file" in error_of(run("train", *data, *out, "--recipe", "nuklei"), 2)
    assert "--val" in error_of(
        run("train", "--data", NUCLEI / "train.json", *out, "--recipe", recipe, "--val-images", tmp_path), 2
    )
    assert "train.json: no such" in error_of(run("train", "--data", tmp_path, *out, "--recipe", recipe), 3)
    assert "no such annotation" in error_of(
        run("train", *data, *out, "--recipe", recipe, "--val", tmp_path / "v.json"), 3
    )
    assert run("train", *data, *out).exit_code == 2
    assert not (tmp_path / "run").exists()
    recipe_and_blocked = ("--recipe", recipe, "--out", recipe / "below")
    assert "cannot be written" in error_of(run("train", *data, *recipe_and_blocked), 1)


def test_classes_that_do_not_match_show_before_training(run: Run, recipe: Path, tmp_path: Path) -> None:
    document = json.loads((NUCLEI / "val.json").read_text())
    document["categories"].append({"id": 1000, "name": "fibre"})
    (tmp_path / "val.json").write_text(json.dumps(document))
    words = ("--data", NUCLEI, "--val", tmp_path / "val.json", "--val-images", NUCLEI / "images", "--recipe", recipe)
    assert "does not know 'fibre'" in error_of(run("train", *words, "--out", tmp_path / "run"), 3)
    assert not (tmp_path / "run" / "log.csv").exists()


def test_a_damaged_picture_is_one_line(run: Run, recipe: Path, tmp_path: Path) -> None:
    """Its header is whole, so only a worker process finds it, and sends its whole traceback along."""
    images = tmp_path / "images"
    shutil.copytree(NUCLEI / "images", images)
    for path in images.iterdir():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    words = ("train", "--data", NUCLEI / "train.json", "--images", images, "--recipe", recipe)
    for workers in (0, 1):
        outcome = run(*words, "--out", tmp_path / f"run{workers}", f"train.workers={workers}")
        assert outcome.exit_code == 3
        _, line = outcome.stderr.strip().splitlines()  # the first tells the backbone's licence
        assert line.startswith(f"error: {images}")
        assert "damaged image" in line

"""`condinst train` on a few real images: what it leaves behind, and what it refuses before training."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import Result

from condinst.model.backbones.backbone import Backbone
from condinst.recipes import load_recipe
from condinst.weights.folder import load_model
from condinst.weights.published.caffe import blob_name

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
    lines = [line for line in outcome.stderr.strip().splitlines() if not line.startswith("note: ")]
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
    assert "not a data set of a known format" in error_of(run("train", "--data", tmp_path, *out, "--recipe", recipe), 3)
    assert "no such file or folder" in error_of(
        run("train", *data, *out, "--recipe", recipe, "--val", tmp_path / "v.json"), 3
    )
    assert not (tmp_path / "run").exists()
    recipe_and_blocked = ("--recipe", recipe, "--out", recipe / "below")
    assert "cannot be written" in error_of(run("train", *data, *recipe_and_blocked), 1)


def test_classes_that_do_not_match_show_before_training(run: Run, recipe: Path, tmp_path: Path) -> None:
    document = json.loads((NUCLEI / "val.json").read_text())
    document["categories"].append({"id": 1000, "name": "fibre"})
    document["annotations"][0]["category_id"] = 1000  # a class without objects is only noted
    (tmp_path / "val.json").write_text(json.dumps(document))
    words = ("--data", NUCLEI, "--val", tmp_path / "val.json", "--val-images", NUCLEI / "images", "--recipe", recipe)
    assert "lacks the classes 'fibre'" in error_of(run("train", *words, "--out", tmp_path / "run"), 3)
    assert not (tmp_path / "run" / "log.csv").exists()


def test_measuring_on_training_pictures_is_told(run: Run, recipe: Path, tmp_path: Path) -> None:
    words = ("train", "--data", NUCLEI / "train.json", "--recipe", recipe)
    pictures = len(json.loads((NUCLEI / "train.json").read_text())["images"])
    told = run(*words, "--val", NUCLEI / "train.json", "--out", tmp_path / "same")
    assert told.exit_code == 0, told.output
    assert f"warning: {pictures} of the {pictures} validation pictures are also training pictures" in told.stderr
    assert "trained on too" not in run(*words, "--val", NUCLEI / "val.json", "--out", tmp_path / "held-out").stderr


def test_nothing_is_measured_where_nothing_is_annotated(run: Run, recipe: Path, tmp_path: Path) -> None:
    """All scores would be −1 and the first model the best; no pictures at all would end the run after its last step."""
    whole = json.loads((NUCLEI / "val.json").read_text())
    for pictures in (whole["images"], []):
        val, out = tmp_path / "val.json", tmp_path / f"run-{len(pictures)}"
        val.write_text(json.dumps(whole | {"images": pictures, "annotations": []}))
        words = ("--val", val, "--val-images", NUCLEI / "images", "--recipe", recipe, "--out", out)
        outcome = run("train", "--data", NUCLEI, *words, "train.validate_every=1")
        assert outcome.exit_code == 0, outcome.output
        assert f"note: {val}: no object is annotated, so there are no validation scores" in outcome.stderr
        assert not (out / "scores.csv").exists()
        assert not (out / "last").exists()
        assert (out / "report.html").exists()


def test_a_refused_run_leaves_no_folder(run: Run, recipe: Path, tmp_path: Path) -> None:
    words = ("--data", NUCLEI / "train.json", "--recipe", recipe, "train.patience=2")
    assert "patience needs measurements" in error_of(run("train", *words, "--out", tmp_path / "new"), 2)
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    run("train", *words, "--out", tmp_path / "old")
    assert (tmp_path / "old").is_dir()


@pytest.mark.parametrize("kept", [None, "notes.txt"])
def test_a_picture_that_cannot_be_read_leaves_no_half_of_a_run(
    run: Run, recipe: Path, tmp_path: Path, kept: str | None
) -> None:
    """It shows only when its turn comes; a file of the user's stays."""
    shutil.copytree(NUCLEI, tmp_path / "data")
    for picture in (tmp_path / "data" / "images").iterdir():  # headers stay whole
        picture.write_bytes(picture.read_bytes()[:-200])
    out = tmp_path / "run"
    if kept:
        out.mkdir()
        (out / kept).touch()
    outcome = run("train", "--data", tmp_path / "data", "--recipe", recipe, "--out", out)
    assert outcome.exit_code == 3, outcome.output
    assert "damaged image" in outcome.stderr
    assert out.exists() == bool(kept)
    assert not kept or [path.name for path in out.iterdir()] == [kept]


def test_pictures_too_small_for_the_norms_are_one_line(run: Run, recipe: Path, tmp_path: Path) -> None:
    words = ("--data", NUCLEI / "train.json", "--recipe", recipe, "--out", tmp_path / "run", "augment.crop=32")
    outcome = run("train", *words, "train.batch_size=1")
    assert outcome.exit_code == 2, outcome.output
    assert "train.batch_size=1: a picture of 32×32 px gives one pixel" in outcome.stderr.splitlines()[-1]


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
        *_, line = outcome.stderr.strip().splitlines()  # notes and the backbone's licence come first
        assert sum(each.startswith("error: ") for each in outcome.stderr.splitlines()) == 1
        assert line.startswith(f"error: {images}")
        assert "damaged image" in line


def test_cocos_own_layout_is_the_whole_command(
    run: Run, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recipe and a folder: trained on the one split, measured on the other, kept under the recipe's name."""
    (tmp_path / "coco" / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        shutil.copy(NUCLEI / f"{split}.json", tmp_path / "coco" / "annotations" / f"instances_{split}2017.json")
        shutil.copytree(NUCLEI / "images", tmp_path / "coco" / f"{split}2017")
    monkeypatch.chdir(tmp_path)
    outcome = run("train", "--recipe", recipe, "--data", "coco/", "train.iterations=1")
    assert outcome.exit_code == 0, outcome.output
    assert load_model("runs/tiny")[1].train.iterations == 1
    scores = json.loads(Path("runs/tiny/scores.jsonl").read_text())
    measured = run("val", "--model", "runs/tiny", "--data", "coco", "--json", "--device", "cpu")
    assert json.loads(measured.stdout)["images"] == scores["images"] == 4
    again = run("train", "--recipe", recipe, "--data", "coco/")
    assert error_of(again, 2).startswith("error: runs/tiny: already holds a training run")


def test_pictures_without_objects_are_left_out_where_asked(run: Run, recipe: Path, tmp_path: Path) -> None:
    document = json.loads((NUCLEI / "train.json").read_text())
    kept = document["images"][0]["id"]
    crowded = document["images"][1]["id"]
    document["annotations"] = [
        record | {"iscrowd": int(record["image_id"] == crowded)}
        for record in document["annotations"]
        if record["image_id"] in {kept, crowded}
    ]
    (tmp_path / "train.json").write_text(json.dumps(document))
    words = ("train", "--data", tmp_path, "--images", NUCLEI / "images", "--recipe", recipe, "train.iterations=1")
    outcome = run(*words, "--out", tmp_path / "run", "train.skip_empty=true")
    assert outcome.exit_code == 0, outcome.output
    total = len(document["images"])
    note = f"note: left out {total - 1} of {total} pictures without an annotated object"
    assert note in outcome.stderr.splitlines()
    outcome = run(*words, "--out", tmp_path / "all")
    assert outcome.exit_code == 0
    assert "no annotated object" not in outcome.stderr
    (tmp_path / "train.json").write_text(json.dumps(document | {"annotations": []}))
    line = error_of(run(*words, "--out", tmp_path / "none", "train.skip_empty=true"), 3)
    assert line.endswith("the training set has no annotated instance; check the annotation file")
    assert not (tmp_path / "none").exists()


def test_first_weights_that_saw_other_pictures_are_told(run: Run, recipe: Path, tmp_path: Path) -> None:
    weights = tmp_path / "R-26.pkl"
    backbone = ["model.backbone.name=resnet26", "model.backbone.frozen_stages=5"]
    config = load_recipe(str(recipe)).with_overrides(backbone)
    state = Backbone(config.model.backbone).body.state_dict()
    weights.write_bytes(pickle.dumps({blob_name(n): t.numpy() for n, t in state.items() if "num_batches" not in n}))
    words = ("train", "--data", NUCLEI, "--recipe", recipe, *backbone, "train.iterations=1", f"train.init={weights}")
    outcome = run(*words, "--out", tmp_path / "run")
    assert outcome.exit_code == 0, outcome.output
    seen = (
        "model.channel_order=BGR model.pixel_mean=[103.53,116.28,123.675] model.pixel_std=[1.0,1.0,1.0] "
        "model.backbone.stride_in_1x1=true"
    )
    told = outcome.stderr.splitlines()
    assert told[:2] == [
        f"backbone resnet26, first weights: {weights}",
        f"note: the weights of train.init={weights} were trained with {seen}",
    ]
    kept, _ = load_model(tmp_path / "run")
    assert torch.equal(kept.backbone.body.state_dict()["conv1.weight"], state["conv1.weight"])
    outcome = run(*words, "--out", tmp_path / "alike", *seen.split(" "))
    assert outcome.exit_code == 0, outcome.output
    assert "note:" not in outcome.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows ends the process itself")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_in_one_line(
    run: Run, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    def stopped(*_: object) -> None:
        (tmp_path / "run" / "checkpoint-00000003").mkdir()
        os.kill(os.getpid(), number)
        time.sleep(5)

    monkeypatch.setattr("condinst.engine.run.train", stopped)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        outcome = run("train", "--data", NUCLEI, "--recipe", recipe, "--out", tmp_path / "run")
    finally:
        signal.signal(signal.SIGINT, before)
    line = error_of(outcome, code)
    assert line == "interrupted; --resume continues from the checkpoint of iteration 3"


def test_a_resumed_run_tells_what_changed(run: Run, recipe: Path, tmp_path: Path) -> None:
    words = ("train", "--data", NUCLEI / "train.json", "--recipe", recipe, "--out", tmp_path / "run")
    assert run(*words).exit_code == 0
    weights = (tmp_path / "run" / "model.safetensors").read_bytes()
    more = ("--resume", "model.fpn_channels=64")
    assert "model.fpn_channels 32 → 64" in error_of(run(*words, *more), 2)
    assert "has already done 2" in error_of(run(*words, "--resume", "train.iterations=1"), 2)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == weights
    outcome = run(*words, "--resume", "train.seed=4")
    assert outcome.exit_code == 0
    assert "note: settings changed since the last start: train.seed 0 → 4" in outcome.stderr


def test_small_rtm_plans_as_without_a_recipe_and_resumes_with_the_plan(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ("train", "--data", NUCLEI, "--recipe", "small-rtm", "--out", out, "--val", "none")
    size = ("input.shorter=96", "augment.crop=64", "train.init=none", "train.workers=0", "train.batch_size=2")
    outcome = run(*words, *size, "train.accumulate=2", "train.iterations=2", "train.precision=no")
    assert outcome.exit_code == 0, outcome.output
    assert "data: 4 pictures" in outcome.stderr
    assert "memory: about" in outcome.stderr
    config = load_model(out)[1]
    assert config.model.method == "rtmdet-ins"
    assert config.augment.shorter == (96,)
    assert (config.train.warmup_iterations, config.train.checkpoint_every) == (0, 1)
    longer = run(*words, "--resume", "train.iterations=3")
    assert longer.exit_code == 0, longer.output
    assert "data: 4 pictures" not in longer.stderr
    assert load_model(out)[1].train.iterations == 3
    assert run("predict", NUCLEI / "images", "--model", out, "--out", tmp_path / "found").exit_code == 0

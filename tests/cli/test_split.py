"""`condinst data split`, and what `condinst train` holds out where nothing is there to measure on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import Result

from condinst.weights.folder import load_model

pytestmark = pytest.mark.usefixtures("fresh_accelerator")

NUCLEI = Path(__file__).parent.parent / "data" / "nuclei"
Run = Callable[..., Result]
RECIPE = {
    "model": {
        "backbone": {"name": "test_resnet", "frozen_stages": 0},
        "fpn_channels": 16,
        "head": {"convs": 1, "channels": 16},
        "mask_branch": {"convs": 1, "channels": 8},
    },
    "input": {"shorter": 64, "longer": 96},
    "augment": {"shorter": [64], "longer": 96},
    "train": {"init": "none", "iterations": 1, "batch_size": 2, "workers": 0, "warmup_iterations": 0},
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The eight nuclei pictures, not divided; the first of them twice."""
    folder = tmp_path / "data"
    shutil.copytree(NUCLEI / "images", folder / "images")
    whole = json.loads((NUCLEI / "train.json").read_bytes())
    other = json.loads((NUCLEI / "val.json").read_bytes())
    shift = 1 + max(one["id"] for one in whole["images"])
    for one in other["images"]:
        whole["images"].append(one | {"id": one["id"] + shift})
    later = 1 + max(one["id"] for one in whole["annotations"])
    for one in other["annotations"]:
        whole["annotations"].append(one | {"id": one["id"] + later, "image_id": one["image_id"] + shift})
    first = whole["images"][0]
    copy = f"copy-{Path(first['file_name']).name}"
    shutil.copy(folder / "images" / first["file_name"], folder / "images" / copy)
    whole["images"].append(first | {"id": 10_000, "file_name": copy})
    (folder / "annotations.json").write_text(json.dumps(whole))
    return folder


def images_of(path: Path) -> set[str]:
    return {one["file_name"] for one in json.loads(path.read_bytes())["images"]}


def test_split(run: Run, data: Path, tmp_path: Path) -> None:
    outcome = run("data", "split", data, tmp_path / "out", "--val", "0.25", "--test", "0.12", "--seed", "3")
    assert outcome.exit_code == 0, outcome.output
    parts = {name: images_of(tmp_path / "out" / f"{name}.json") for name in ("train", "val", "test")}
    assert {name: len(part) for name, part in parts.items()} == {"train": 6, "val": 2, "test": 1}
    assert len(set.union(*parts.values())) == 9
    (first,) = [name for name in set.union(*parts.values()) if name.startswith("copy-")]
    assert any({first, first.removeprefix("copy-")} <= part for part in parts.values())
    assert "similar pictures, kept in the same part: 1" in outcome.stderr
    total = sum(len(json.loads((tmp_path / "out" / f"{name}.json").read_bytes())["annotations"]) for name in parts)
    assert total == len(json.loads((data / "annotations.json").read_bytes())["annotations"])
    again = run("data", "split", data, tmp_path / "again", "--val", "0.25", "--test", "0.12", "--seed", "3")
    assert again.exit_code == 0
    assert images_of(tmp_path / "again" / "val.json") == parts["val"]
    yolo = run("data", "split", data, tmp_path / "yolo", "--format", "yolo", "--pictures", "link")
    assert yolo.exit_code == 0, yolo.output
    assert (tmp_path / "yolo" / "data.yaml").exists()


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--val", "0"), 2, "--val 0 --test 0: give shares"),
        (("--val", "1"), 2, "give shares"),
        (("--val", "-0.2"), 2, "give shares"),
        (("--val", "nan"), 2, "give shares"),
        (("--val", "0.6", "--test", "0.5"), 2, "give shares"),
        (("--val", "0.01"), 3, "no pictures are left for val (1% of 9, in 8 groups"),
    ],
)
def test_split_refuses(run: Run, data: Path, tmp_path: Path, words: tuple[str, ...], code: int, told: str) -> None:
    outcome = run("data", "split", data, tmp_path / "out", *words)
    assert outcome.exit_code == code, outcome.output
    assert told in outcome.stderr.replace("\n", " ")
    assert not (tmp_path / "out").exists()


def test_split_leaves_divided_data_alone(run: Run, tmp_path: Path) -> None:
    outcome = run("data", "split", NUCLEI, tmp_path / "out")
    assert outcome.exit_code == 2
    assert "is already divided into train, val" in outcome.stderr
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").touch()
    outcome = run("data", "split", NUCLEI / "train.json", tmp_path / "out")
    assert outcome.exit_code == 2
    assert "choose a new or empty folder" in outcome.stderr


def test_training_holds_pictures_out(run: Run, data: Path, tmp_path: Path) -> None:
    """One of nine; a resumed run keeps it, whatever else changes; `--val none` trains on all."""
    recipe, out = tmp_path / "tiny.yaml", tmp_path / "run"
    recipe.write_text(yaml.safe_dump(RECIPE))
    words = ("train", "--data", data, "--recipe", recipe, "--out", out)
    outcome = run(*words)
    assert outcome.exit_code == 0, outcome.output
    assert "held out: 1 of 9 pictures for validation, because there is no validation data" in outcome.stderr
    assert json.loads((out / "scores.jsonl").read_text())["images"] == 1
    assert json.loads((out / "environment.json").read_text())[0]["data"]["pictures"] == 8
    (held,) = json.loads((out / "held-out.json").read_bytes())
    assert (data / held).is_file()
    assert "copy-" not in held

    resumed = run(*words, "--resume", "train.iterations=2", "train.seed=9")
    assert resumed.exit_code == 0, resumed.output
    assert f"held out: 1 of 9 pictures for validation, listed in {out}/held-out.json" in resumed.stderr
    assert json.loads((out / "held-out.json").read_bytes()) == [held]
    assert "has changed" not in resumed.stderr
    (out / "held-out.json").write_text("{}")
    damaged = run(*words, "--resume", "train.iterations=3")
    assert damaged.exit_code == 1
    assert "held-out.json: not the file that this run wrote (it does not list pictures)" in damaged.stderr
    (out / "held-out.json").unlink()  # as the line says: the same seed chooses the same picture
    anew = run(*words, "--resume", "train.iterations=3", "train.seed=0")
    assert anew.exit_code == 0, anew.output
    assert "held-out.json is missing, so condinst chooses the validation pictures anew" in anew.stderr
    assert json.loads((out / "held-out.json").read_bytes()) == [held]
    assert "has changed" not in anew.stderr

    outcome = run(*words[:-1], tmp_path / "all", "--val", "none")
    assert outcome.exit_code == 0, outcome.output
    assert "held out" not in outcome.stderr
    assert not (tmp_path / "all" / "held-out.json").exists()
    assert not (tmp_path / "all" / "scores.jsonl").exists()
    assert load_model(tmp_path / "all")[1].train.iterations == 1
    resumed = run(*words[:-1], tmp_path / "all", "--resume", "train.iterations=2")  # it goes on with all pictures
    assert resumed.exit_code == 0, resumed.output
    assert "validation" not in resumed.stderr


def test_too_few_pictures_to_hold_any_out(run: Run, tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE))
    words = ("train", "--data", NUCLEI / "train.json", "--recipe", recipe, "--out", tmp_path / "run")
    outcome = run(*words)
    assert outcome.exit_code == 0, outcome.output
    assert "note: no pictures are held out for validation (4 pictures are too few); give --val DATA" in outcome.stderr


def test_unread_files_are_told_once(run: Run, data: Path, tmp_path: Path) -> None:
    """Not with the training data and again with the scores of the pictures that are held out."""
    recipe, picture = tmp_path / "tiny.yaml", next((data / "images").iterdir())
    recipe.write_text(yaml.safe_dump(RECIPE))
    shutil.copy(picture, data / "images" / f"stray{picture.suffix}")
    outcome = run("train", "--data", data, "--recipe", recipe, "--out", tmp_path / "run")
    assert outcome.exit_code == 0, outcome.output
    assert outcome.stderr.count("stray") == 1


def test_split_refuses_subsets_of_any_name(run: Run, data: Path, tmp_path: Path) -> None:
    """Neither is a train part, and none is left out in silence."""
    (data / "annotations.json").unlink()
    for name in ("val", "test"):
        shutil.copy(NUCLEI / "val.json", data / f"{name}.json")
    outcome = run("data", "split", data, tmp_path / "out")
    assert outcome.exit_code == 2
    assert "is already divided into val, test" in outcome.stderr
    assert not (tmp_path / "out").exists()

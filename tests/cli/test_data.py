"""`condinst data convert`: what it prints, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Run = Callable[..., Result]
DATA = Path(__file__).parent.parent / "data"


def error_of(outcome: Result, code: int) -> str:
    assert outcome.exit_code == code, outcome.output
    assert outcome.stdout == ""
    (line,) = outcome.stderr.strip().splitlines()
    return line


def test_convert_tells_what_it_wrote_and_what_a_row_cannot_hold(run: Run, tmp_path: Path) -> None:
    outcome = run("data", "convert", DATA / "coco_mini", tmp_path / "my yolo", "--format", "yolo")
    assert outcome.exit_code == 0, outcome.output
    assert outcome.stdout.splitlines() == ["train: 4 pictures, 33 instances", "val: 3 pictures, 21 instances"]
    assert outcome.stderr.splitlines() == [
        "note: 5 objects of several parts or with holes are joined into one ring by cuts without width",
        "note: 1 crowd regions are left out, because a row cannot mark them",
    ]
    assert len(list((tmp_path / "my yolo").rglob("*.txt"))) == 7


def test_options(run: Run, tmp_path: Path) -> None:
    words = ("--format", "coco", "--split", "val", "--pictures", "link")
    assert run("data", "convert", DATA / "nuclei", tmp_path / "out", *words).exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["images", "val.json"]
    assert all(path.is_symlink() for path in (tmp_path / "out" / "images").iterdir())
    moved = ("--images", DATA / "nuclei" / "images", "--format", "labelme")
    (tmp_path / "train.json").write_text((DATA / "nuclei" / "train.json").read_text())
    assert run("data", "convert", tmp_path / "train.json", tmp_path / "labelme", *moved).exit_code == 0
    documents = [json.loads(path.read_text()) for path in (tmp_path / "labelme").glob("*.json")]
    objects = [shape["group_id"] or id(shape) for document in documents for shape in document["shapes"]]
    assert len(set(objects)) == 59  # one of them in two parts


def test_refusals(run: Run, tmp_path: Path) -> None:
    words = ("data", "convert", DATA / "nuclei")
    out = tmp_path / "out"
    assert "already exists" in error_of(run(*words, DATA, "--format", "coco"), 2)
    assert "has train, val but no test split" in error_of(run(*words, out, "--format", "coco", "--split", "test"), 3)
    assert "no such file or folder" in error_of(run("data", "convert", tmp_path / "no", out, "--format", "coco"), 3)
    (tmp_path / "file").touch()
    assert "cannot be written" in error_of(run(*words, tmp_path / "file" / "out", "--format", "coco"), 1)
    assert run(*words, out).exit_code == 2
    assert run(*words, out, "--format", "voc").exit_code == 2
    assert not out.exists()


@pytest.mark.parametrize("target", ["yolo", "labelme"])
def test_every_verb_takes_every_format(run: Run, tmp_path: Path, model_folder: Path, target: str) -> None:
    """The numbers of a model do not depend on the format that its data are in."""
    assert run("data", "convert", DATA / "nuclei", tmp_path / "out", "--format", target).exit_code == 0
    measured = [
        json.loads(run("val", "--model", model_folder, "--data", data, "--json", "--device", "cpu").stdout)
        for data in (DATA / "nuclei", tmp_path / "out")
    ]
    assert measured[0]["segm"] == measured[1]["segm"]
    assert measured[0]["bbox"]["AP"] == pytest.approx(measured[1]["bbox"]["AP"], abs=0.02)  # boxes are the masks' own

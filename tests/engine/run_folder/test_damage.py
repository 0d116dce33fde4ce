"""Damaged files in a run's folder: one line each, nothing repaired in silence, and the line's advice works."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from accelerate import Accelerator

from condinst.data.sample import AnnotatedData
from condinst.engine.planning.hold_out import hold_out_again
from condinst.engine.run_folder.environment import record_environment, record_memory
from condinst.engine.run_folder.scores import best_iteration, forget_scores, record_scores, recorded_score
from condinst.errors import CondinstError
from condinst.evaluation.coco import UNKNOWN
from condinst.evaluation.evaluate import Scores

DATA = AnnotatedData((), (), (), (), Path("data"))


def scores(mask: float) -> Scores:
    return Scores(UNKNOWN, replace(UNKNOWN, AP=mask), {}, {}, 100, 1, 1, 1, ())


SHAPES = {
    "binary": b"\x89PNG\r\n\x1a\n\x00\xff",
    "number": b"3\n",
    "list": b"[]\n",
    "other keys": b'[{"a": 1}]\n',
    "other line": b'{"a": 1}\n',
    "text": b"words\n",
    "nested": b"[" * 100_000 + b"\n",
    "torn": b'{"iteration": 1, "bbox"',
    "text for a number": b'{"iteration": 1, "bbox": {"AP": "x"}, "segm": {"AP": 0.1}}\n',
    "a key twice": b'{"iteration": 1, "iteration": 1, "bbox": {"AP": 1}, "segm": {"AP": 0.1}}\n',
    "a score that is no number": b'{"iteration": 1, "bbox": {"AP": 1}, "segm": {"AP": NaN}}\n',
    "an infinite score": b'{"iteration": 1, "bbox": {"AP": 1e999}, "segm": {"AP": 0.1}}\n',
    "true for an iteration": b'{"iteration": true, "bbox": {"AP": 1}, "segm": {"AP": 0.1}}\n',
    "a negative iteration": b'{"iteration": -1, "bbox": {"AP": 1}, "segm": {"AP": 0.1}}\n',
    "an iteration twice": b'{"iteration": 1, "bbox": {"AP": 1}, "segm": {"AP": 0.1}}\n' * 2,
    "no iteration": b'{"iteration": "1", "bbox": {"AP": 1}, "segm": {"AP": 0.1}}\n',
}


def put(path: Path, content: bytes | None) -> None:
    path.unlink(missing_ok=True)
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)


@pytest.mark.parametrize("shape", [*SHAPES, "folder"])
def test_scores(tmp_path: Path, shape: str) -> None:
    record_scores(scores(0.5), tmp_path, 10)
    put(tmp_path / "scores.jsonl", SHAPES.get(shape))
    with pytest.raises(CondinstError, match=r"scores.jsonl: not the file .*move it and scores.csv away") as caught:
        forget_scores(tmp_path, 10)
    assert "\n" not in str(caught.value)
    (tmp_path / "scores.jsonl").rename(tmp_path / "aside")
    (tmp_path / "scores.csv").rename(tmp_path / "aside.csv")
    forget_scores(tmp_path, 10)
    record_scores(scores(0.25), tmp_path, 20)
    assert best_iteration(tmp_path) == 20


@pytest.mark.parametrize("content", [None, b""])
def test_a_table_without_its_lines(tmp_path: Path, content: bytes | None) -> None:
    """The numbers of the table are not removed in silence, and the advice works."""
    record_scores(scores(0.5), tmp_path, 10)
    (tmp_path / "scores.jsonl").unlink()
    if content is not None:
        (tmp_path / "scores.jsonl").write_bytes(content)
    with pytest.raises(CondinstError, match=r"iteration 10 is missing, but scores.csv has it; .*move scores.csv away"):
        forget_scores(tmp_path, 15)
    (tmp_path / "scores.csv").rename(tmp_path / "aside.csv")
    forget_scores(tmp_path, 15)
    record_scores(scores(0.25), tmp_path, 20)
    assert best_iteration(tmp_path) == 20


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"a,b\n1,2\n"])
def test_the_table_is_written_anew(tmp_path: Path, content: bytes) -> None:
    """It repeats the lines; one that a killed run has not written yet, too."""
    record_scores(scores(0.5), tmp_path, 10)
    whole = (tmp_path / "scores.csv").read_bytes()
    (tmp_path / "scores.csv").write_bytes(content)
    forget_scores(tmp_path, 10)
    assert (tmp_path / "scores.csv").read_bytes() == whole


def test_a_line_cut_off_is_measured_again(tmp_path: Path) -> None:
    record_scores(scores(0.5), tmp_path, 10)
    first = (tmp_path / "scores.jsonl").read_bytes()
    record_scores(scores(0.75), tmp_path, 20)
    assert recorded_score(tmp_path, 20) == 0.75
    (tmp_path / "scores.jsonl").write_bytes((tmp_path / "scores.jsonl").read_bytes()[:-30])
    forget_scores(tmp_path, 20)
    assert (tmp_path / "scores.jsonl").read_bytes() == first
    assert recorded_score(tmp_path, 20) is None


@pytest.mark.parametrize("shape", [*(name for name in SHAPES if name != "torn"), "empty", "folder"])
def test_environment(tmp_path: Path, shape: str) -> None:
    """The records of earlier starts are not overwritten by a file that only looks empty."""
    accelerator = Accelerator(cpu=True)
    record_environment(tmp_path, DATA, accelerator, 0)
    whole = (tmp_path / "environment.json").read_bytes()
    put(tmp_path / "environment.json", b"" if shape == "empty" else SHAPES.get(shape))
    with pytest.raises(CondinstError, match=r"environment.json: not the file that this run wrote") as caught:
        record_environment(tmp_path, DATA, accelerator, 3)
    assert "\n" not in str(caught.value)
    (tmp_path / "environment.json").rename(tmp_path / "aside")
    assert record_environment(tmp_path, DATA, accelerator, 3)
    (tmp_path / "environment.json").write_bytes(whole)
    assert record_environment(tmp_path, DATA, accelerator, 3)
    assert [record["iteration"] for record in json.loads((tmp_path / "environment.json").read_bytes())] == [0, 3]


def test_an_environment_with_a_key_twice(tmp_path: Path) -> None:
    record_environment(tmp_path, DATA, Accelerator(cpu=True), 0)
    path = tmp_path / "environment.json"
    path.write_text(path.read_text().replace('"iteration": 0', '"iteration": 0, "iteration": 0'))
    with pytest.raises(CondinstError, match=r"an object has the key 'iteration' twice") as caught:
        record_environment(tmp_path, DATA, Accelerator(cpu=True), 3)
    assert "\n" not in str(caught.value)


def test_held_out_pictures_in_an_object_are_no_list(tmp_path: Path) -> None:
    (tmp_path / "held-out.json").write_text('{"a.png": 1, "a.png": 2}')
    with pytest.raises(CondinstError, match=r"held-out.json: not the file that this run wrote .*'a.png' twice"):
        hold_out_again(DATA, tmp_path)


@pytest.mark.parametrize(
    ("planned", "most", "words"),
    [
        (None, 3, "at most 3.0 GB"),
        (3, 3.5, "at most 3.5 GB; the plan expected 3.0 GB"),
        (3, 4.5, "at most 4.5 GB, 1.5 times the plan; the plan expected 3.0 GB"),
        (3, 1.5, "at most 1.5 GB, 0.5 times the plan; the plan expected 3.0 GB"),
    ],
)
def test_planned_and_measured_memory(tmp_path: Path, planned: float | None, most: float, words: str) -> None:
    record_environment(tmp_path, DATA, Accelerator(cpu=True), 0, None if planned is None else int(planned * 2**30))
    assert record_memory(tmp_path, int(most * 2**30)) == words
    (record,) = json.loads((tmp_path / "environment.json").read_bytes())
    assert record["memory_most_mb"] == most * 1024
    assert record.get("memory_planned_mb") == (None if planned is None else planned * 1024)


def test_held_out_pictures_that_are_gone(tmp_path: Path) -> None:
    """Training on all pictures instead would be a silent change."""
    (tmp_path / "held-out.json").write_text('["gone.png"]')
    with pytest.raises(CondinstError, match=r"held-out.json: not .*none of its pictures is in the data"):
        hold_out_again(DATA, tmp_path)

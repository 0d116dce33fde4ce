"""What a run that ends before its time leaves in its folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from condinst.config import Config
from condinst.data.sample import AnnotatedData
from condinst.engine.run_folder.folder import finish_folder
from condinst.engine.run_folder.own_files import (
    SCORE_LINES,
    check_places,
    emptied_on_failure,
    refuse_overwriting,
)
from condinst.engine.run_folder.scores import best_iteration
from condinst.errors import CondinstError, UsageError


class StoppedError(Exception):
    """Stands for whatever ends a run."""


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")


def fail(folder: Path, *files: str, error: type[BaseException] = StoppedError, main: bool = True) -> None:
    """A run that writes `files` and then ends."""

    def run() -> None:
        with emptied_on_failure(folder, main):
            for file in files:
                write(folder / file)
            raise error

    with pytest.raises(error):
        run()


@pytest.mark.parametrize("error", [StoppedError, KeyboardInterrupt])
def test_nothing_is_left_where_nothing_was(tmp_path: Path, error: type[BaseException]) -> None:
    written = ("config.yaml", "log.csv", "tensorboard/condinst/events", ".checkpoint-00000002.tmp/model.safetensors")
    fail(tmp_path / "new", *written, error=error)
    assert not (tmp_path / "new").exists()
    fail(tmp_path / "new")  # before the folder was made
    (tmp_path / "empty").mkdir()
    fail(tmp_path / "empty", *written, error=error)
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize("worth", ["checkpoint-00000002/state.pt", "model.safetensors", "non-finite-3/batch.json"])
def test_all_is_left_where_something_is_worth_keeping(tmp_path: Path, worth: str) -> None:
    fail(tmp_path / "run", "config.yaml", worth)
    assert (tmp_path / "run" / worth).exists()
    assert (tmp_path / "run" / "config.yaml").exists()


USERS = (
    "notes.txt",
    "last/notes.txt",
    "tensorboard/condinst/notes.txt",
    ".checkpoint-00000002.tmp/deeper/notes.txt",
    "batch-17.jpg",
    "checkpoint-mine01/notes.txt",
    ".download.part",
)


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_users_files_stay(tmp_path: Path, when: str) -> None:
    """Files of the user, put there before the run or while it goes on; the run's own files go."""
    written = ("config.yaml", "log.csv", "tensorboard/condinst/events.1", "last/config.yaml", "batch-1.jpg")
    for name in USERS if when == "before" else ():
        write(tmp_path / "run" / name)
    fail(tmp_path / "run", *written, *(USERS if when == "during" else ()))
    left = {path.relative_to(tmp_path / "run").as_posix() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert left == set(USERS)


def test_what_was_there_before_stays_even_if_it_bears_a_runs_name(tmp_path: Path) -> None:
    write(tmp_path / "run" / "labels.svg")
    fail(tmp_path / "run", "config.yaml")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["labels.svg"]


@pytest.mark.parametrize("name", ["config.yaml", "labels.svg", "batch-2.jpg", "report.html", "log.csv"])
def test_a_new_run_overwrites_no_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").touch()
    refuse_overwriting(tmp_path)
    (tmp_path / name).touch()
    with pytest.raises(UsageError, match=f"holds {name}, which training would overwrite; choose another --out"):
        refuse_overwriting(tmp_path)
    (tmp_path / "environment.json").touch()  # a run that was killed before its first checkpoint wrote it all
    refuse_overwriting(tmp_path)


def test_a_folder_in_a_files_place_and_the_reverse(tmp_path: Path) -> None:
    check_places(tmp_path)
    (tmp_path / "report.html").mkdir()
    with pytest.raises(
        CondinstError, match=r"report.html: is a folder, but training writes a file of this name; rename the folder"
    ):
        check_places(tmp_path)
    (tmp_path / "report.html").rmdir()
    (tmp_path / "last" / "config.yaml").mkdir(parents=True)
    with pytest.raises(CondinstError, match=r"last/config.yaml: is a folder, but training writes a file of this name"):
        check_places(tmp_path)
    (tmp_path / "last" / "config.yaml").rmdir()
    (tmp_path / "last").rmdir()
    (tmp_path / "last").touch()
    with pytest.raises(
        CondinstError, match="last: is a file, but training makes a folder of this name; rename the file"
    ):
        check_places(tmp_path)


def test_other_processes_and_runs_that_succeed_remove_nothing(tmp_path: Path) -> None:
    fail(tmp_path / "run", "config.yaml", main=False)
    (tmp_path / "run" / "config.yaml").unlink()
    with emptied_on_failure(tmp_path / "run", main=True):
        write(tmp_path / "run" / "config.yaml")
    assert (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize(
    ("pairs", "best"),
    [
        ([(0.1, 0.2), (0.3, 0.4), (0.5, 0.4)], 20),  # a later one as good does not replace it
        ([(0.1, -1), (0.3, -1)], 20),  # boxes alone
        ([(0.1, 0.0), (0.3, 0.0)], 10),
        ([], None),
    ],
)
def test_which_model_was_kept(tmp_path: Path, pairs: list[tuple[float, float]], best: int | None) -> None:
    for number, (box, mask) in enumerate(pairs, start=1):
        line = json.dumps({"iteration": 10 * number, "bbox": {"AP": box}, "segm": {"AP": mask}})
        with (tmp_path / SCORE_LINES).open("a") as file:
            file.write(line + "\n")
    assert best_iteration(tmp_path) == best


def test_a_report_without_validation_begins_with_the_training_pictures(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("iteration,total,lr\n1,2.0,0.1\n2,1.0,0.1\n")
    Image.new("RGB", (32, 32), "red").save(tmp_path / "batch-1.jpg")
    (tmp_path / "environment.json").write_text(json.dumps([{"data": {"digest": "x"}, "iteration": 0}]))
    data = AnnotatedData((), (1,), ("cat",), (), tmp_path / "train.json")
    assert finish_folder(tmp_path, Config(), data, None) is None
    page = (tmp_path / "report.html").read_text()
    assert "nothing was measured" in page
    assert 0 < page.index("data:image/jpeg") < page.index("Learning rate")

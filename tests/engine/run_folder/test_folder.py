"""What a run that ends before its time leaves in its folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from condinst.engine.run_folder.folder import emptied_on_failure
from condinst.engine.run_folder.scores import LINES, best_iteration


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


@pytest.mark.parametrize(
    "worth", ["checkpoint-00000002/state.pt", "model.safetensors", "non-finite-3/batch.json", "before"]
)
def test_all_is_left_where_something_is_worth_keeping(tmp_path: Path, worth: str) -> None:
    """before: a file that was there, perhaps of an earlier run."""
    if worth == "before":
        write(tmp_path / "run" / worth)
        fail(tmp_path / "run", "config.yaml")
    else:
        fail(tmp_path / "run", "config.yaml", worth)
    assert (tmp_path / "run" / worth).exists()
    assert (tmp_path / "run" / "config.yaml").exists()


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
        with (tmp_path / LINES).open("a") as file:
            file.write(line + "\n")
    assert best_iteration(tmp_path) == best

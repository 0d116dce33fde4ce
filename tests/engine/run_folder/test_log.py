"""The log of a run: bar on a terminal, lines elsewhere, a table always; rows that a resumed run goes on from."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from condinst.engine.run_folder import log as module
from condinst.engine.run_folder.log import TrainingLog, append_row, duration, forget_rows
from condinst.errors import CondinstError


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_plain_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told: list[tuple[dict[str, float], int]] = []
    with TrainingLog(tmp_path / "log.csv", 0, 5, 2, 4, lambda row, step: told.append((dict(row), step))) as log:
        for iteration in range(1, 6):
            log.step(iteration, {"mask": iteration, "pairwise": 0.0, "lr": 0.5})
    lines = capsys.readouterr().err.splitlines()
    assert not any("pairwise" in line for line in lines)  # masks alone have no such loss; the table has it
    assert {row["pairwise"] for row in table(tmp_path / "log.csv")} == {"0"}
    assert [line.split()[0] for line in lines] == ["2/5", "4/5", "5/5"]
    assert all(" mask " in line and " left " in line and " images_per_second " in line for line in lines)
    assert [(row["iteration"], row["mask"]) for row in table(tmp_path / "log.csv")] == [
        ("2", "1.5"),
        ("4", "3.5"),
        ("5", "5"),
    ]
    assert [(step, row["train/mask"]) for row, step in told] == [(2, 1.5), (4, 3.5), (5, 5)]
    assert all(float(row["memory_mb"]) > 50 for row in table(tmp_path / "log.csv"))


def test_a_bar_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses, rate, speed, memory and the time left; other programs' lines come above it."""
    screen = io.StringIO()
    monkeypatch.setattr(module, "Console", lambda **_: Console(file=screen, force_terminal=True, width=60))
    with TrainingLog(tmp_path / "log.csv", 0, 4, 2, 4) as log:
        for iteration in range(1, 4):
            log.step(iteration, {"classification": 0.25, "total": 12345.6, "lr": 0.5})
        print("iteration 2: mask AP 0.5", file=sys.stderr)
        log.say("[bold]as it stands")
    shown = screen.getvalue()
    for words in ("training", "3/4", "classification 0.25", "total 12346", "lr 0.5", "images_per_second", "memory_mb"):
        assert words in shown
    assert "left 0 s" in shown
    assert "iteration 2: mask AP 0.5" in shown
    assert "[bold]as it stands" in shown


def test_the_time_left_shows_from_the_second_step_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However slow the steps are; what is no training does not count."""
    clock = [1000.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    with TrainingLog(tmp_path / "log.csv", 10, 20, 100, 1) as log:
        for iteration, seconds in ((11, 500.0), (12, 90.0), (13, 90.0)):
            clock[0] += seconds
            log.step(iteration, {"mask": 1.0})
            with log.paused():
                clock[0] += 10_000
        assert log.progress.tasks[0].fields["left"] == "left 10 min"  # 7 steps of 90 s
    assert capsys.readouterr().err.splitlines() == ["12/20  left 12 min"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3599, "1 h 0 min"), (12_000, "3 h 20 min"), (190_800, "2 d 5 h")],
)
def test_a_duration(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_the_mean_goes_on(tmp_path: Path) -> None:
    """Stopped between two rows: the next one is that of a run which was not."""
    path = tmp_path / "log.csv"
    with TrainingLog(path, 0, 6, 4, 1) as log:
        for iteration in (1, 2, 3):
            log.step(iteration, {"mask": 10.0**iteration})
        state = log.state()
        log.step(4, {"mask": 7.0})
    with TrainingLog(path, 3, 6, 4, 1) as log:
        log.restore(state)
        for iteration in (4, 5, 6):
            log.step(iteration, {"mask": 2.0})
    assert [(row["iteration"], row["mask"]) for row in table(path)] == [("4", "278"), ("6", "2")]


@pytest.mark.parametrize(
    ("text", "iteration", "left"),
    [
        ("iteration,a\r\n2,1\r\n4,1\r\n", 2, "iteration,a\r\n2,1\r\n"),
        ("iteration,a\r\n2,1\r\n4,1\r\n", 9, "iteration,a\r\n2,1\r\n4,1\r\n"),
        ("iteration,a\r\n20,1\r\n2", 20, "iteration,a\r\n20,1\r\n"),
        ("iteration,a\r\n20,1\r\n40,", 20, "iteration,a\r\n20,1\r\n"),
        ("iteration,a\r\n2,1\r\n", 0, None),
        ("iterat", 0, None),
    ],
)
def test_rows_that_come_again(tmp_path: Path, text: str, iteration: int, left: str | None) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(text.encode())
    forget_rows(path, iteration)
    assert (path.read_bytes().decode() if path.exists() else None) == left


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"iterat", "its first column is not 'iteration'"),
        (b"a,b\r\n1,2\r\n", "its first column is not 'iteration'"),
        (b"iteration;a\r\n1;2\r\n", "its first column is not 'iteration'"),
        (b"\x89PNG\r\n\x1a\n\x00\xff", "can't decode"),
        (b"iteration,a\r\n2,1\r\n4\r\n6,1\r\n", "row 3 does not have the heading's columns"),
        (b"iteration,a\r\nx,1\r\n", "row 2 does not have the heading's columns"),
        (b"iteration,a\r\n2,0.9x\r\n", "row 2 has text in place of a number"),
        (b"iteration,a\r\n4,1\r\n2,1\r\n", "the iteration of row 3 is not above"),
        (b"iteration,a,a\r\n2,1,1\r\n", "two columns have the same name"),
        (b"iteration,a\r\n" + b"9" * 5000 + b",1\r\n", "row 2 does not have the heading's columns"),
        ("iteration,a\r\n٣,1\r\n".encode(), "row 2 does not have the heading's columns"),
        (None, "Is a directory"),
    ],
)
def test_a_damaged_table_is_one_line(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "log.csv"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(CondinstError, match=r"log.csv: not the file that this run wrote \(.*move it away") as caught:
        TrainingLog(path, 5, 10, 1, 1)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert content is None or path.read_bytes() == content
    path.rename(tmp_path / "aside")  # as the line says
    with TrainingLog(path, 5, 10, 1, 1) as log:
        log.restore({"sums": {}, "count": 0, "last": 5})
        log.step(6, {"mask": 1.0})
    assert [row["iteration"] for row in table(path)] == ["6"]


def test_rows_that_are_lost_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    with TrainingLog(path, 0, 10, 1, 1) as log:
        for iteration in (1, 2, 3):
            log.step(iteration, {"mask": 1.0})
        state = log.state()
    path.write_bytes(path.read_bytes()[:-10])
    with TrainingLog(path, 3, 10, 1, 1) as log, pytest.raises(CondinstError, match="of iteration 2, not 3"):
        log.restore(state)


def test_other_columns_are_added(tmp_path: Path) -> None:
    """As when a run goes on with a GPU: no value lands below another's heading."""
    path = tmp_path / "log.csv"
    append_row(path, {"iteration": 1, "mask": 2, "box": 3})
    append_row(path, {"iteration": 2, "mask": 4, "gpu": 5})
    append_row(path, {"iteration": 3, "gpu": 6})
    assert [list(row.values()) for row in table(path)] == [["1", "2", "3", ""], ["2", "4", "", "5"], ["3", "", "", "6"]]
    assert list(table(path)[0]) == ["iteration", "mask", "box", "gpu"]


def test_a_table_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "log.csv").mkdir()
    with pytest.raises(
        CondinstError, match=r"log.csv: cannot be written \(Is a directory\); free some space"
    ) as caught:
        append_row(tmp_path / "log.csv", {"iteration": 1})
    assert "\n" not in str(caught.value)

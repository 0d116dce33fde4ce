"""The log of a run: a CSV of every logged iteration, and a progress bar or, without a terminal, plain lines."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from condinst.engine.stop import remedy
from condinst.errors import CondinstError, first_line
from condinst.files import replace_file
from condinst.memory import memory_of_children, resident_memory

Tell = Callable[[Mapping[str, float], int], None]  # numbers by name, iteration
# no losses: the first is the row's own number, the others are of the machine
ITERATION, SPEED, MEMORY, GPU_MEMORY = "iteration", "images_per_second", "memory_mb", "gpu_memory_mb"
READERS = "readers_mb"  # memory of the processes that read pictures, apart from what they share with this process


class TrainingLog:
    """Averages losses between logged iterations. Use as a context; only the main process makes one."""

    def __init__(
        self, path: Path, start: int, stop: int, every: int, images_per_iteration: int, tell: Tell | None = None
    ) -> None:
        self.path, self.start, self.stop, self.every, self.tell = path, start, stop, every, tell
        self.images = images_per_iteration
        self.console = Console(stderr=True)
        self.sums: dict[str, float] = {}
        self.count = 0  # of the iterations in `sums`
        self.timed = 0  # of those since `since`
        self.since = time.perf_counter()
        self.first: float | None = None  # when the first step ended, moved on by pauses
        left = TextColumn("{task.fields[left]}")
        self.progress = Progress(TextColumn("training"), BarColumn(), MofNCompleteColumn(), left)
        self.task = self.progress.add_task("", total=stop, completed=start, left="")
        self.words = Text()  # below the bar
        self.live: Live | None = None
        self.last = forget_rows(path, start)  # iteration of the last row in the file; None without a file

    def __enter__(self) -> TrainingLog:
        if self.console.is_terminal:
            self.live = Live(Group(self.progress, self.words), console=self.console)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()

    def state(self) -> dict[str, Any]:
        """Return the state that lets a resumed run write the same rows."""
        return {"sums": dict(self.sums), "count": self.count, "last": self.last or 0}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned. Raises CondinstError if the file has lost rows since."""
        self.sums, self.count = dict(state["sums"]), state["count"]
        expected = state.get("last", self.last)
        if self.last is not None and self.last != expected:
            raise damaged(self.path, f"its last row is of iteration {self.last}, not {expected}")

    def step(self, iteration: int, values: Mapping[str, float]) -> None:
        """Take one iteration's numbers (`iteration` counts the steps done)."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1
        self.timed += 1
        left = self._left(iteration)
        self.progress.update(self.task, completed=iteration, left=left)
        if iteration % self.every == 0 or iteration == self.stop:
            self._write(iteration, left)
        elif iteration == self.start + 2 and self.live is None:  # the next line may be hours away
            self.say(f"{iteration}/{self.stop}  {left}")

    def _left(self, iteration: int) -> str:
        """The time left, from the second step on: the first one takes longer, and no number is known before."""
        now = time.perf_counter()
        if self.first is None:
            self.first = now
            return ""
        return "left " + duration((self.stop - iteration) * (now - self.first) / (iteration - self.start - 1))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time spent inside out of the training time."""
        started = time.perf_counter()
        yield
        paused = time.perf_counter() - started
        self.since += paused
        if self.first is not None:
            self.first += paused

    def say(self, line: str) -> None:
        """A line for people, above the progress bar where there is one."""
        self.console.print(line, soft_wrap=True, highlight=False, markup=False)

    def _write(self, iteration: int, left: str) -> None:
        seconds = time.perf_counter() - self.since
        means = {name: total / self.count for name, total in self.sums.items()}
        row = {ITERATION: float(iteration)} | means | {SPEED: self.images * self.timed / seconds} | _memory()
        append_row(self.path, row)
        self.last = iteration
        if self.tell is not None:
            self.tell({f"train/{name}": value for name, value in row.items() if name != ITERATION}, iteration)
        # a loss of exactly 0 is one that this data or network does not have
        words = "  ".join(f"{name} {_short(value)}" for name, value in row.items() if name != ITERATION and value)
        if self.live is not None:
            self.words.plain = words
        else:
            self.say(f"{iteration}/{self.stop}  {words}  {left}".rstrip())
        self.sums, self.count, self.timed, self.since = {}, 0, 0, time.perf_counter()


def duration(seconds: float) -> str:
    """As people say it: 40 s, 12 min, 3 h 20 min, 2 d 5 h."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // (24 * 60)} d {minutes // 60 % 24} h"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def append_row(path: Path, row: Mapping[str, float]) -> None:
    """Add a row to a CSV file; raises CondinstError if it cannot be written.

    A new file appears with heading and row at once. A row with other columns than the file's adds them to the file.
    """
    texts = {name: f"{value:.6g}" for name, value in row.items()}
    try:
        heading = _read_heading(path)
        if heading is not None and set(texts) <= set(heading):
            with path.open("a", newline="", encoding="utf-8") as file:
                csv.writer(file).writerow([texts.get(name, "") for name in heading])
            return
        table = read_table(path) if heading is not None else Table([], [])
        columns = list(dict.fromkeys([*table.heading, *texts]))
        rows = [old + [""] * (len(columns) - len(old)) for old in table.rows]
        write_table(path, Table(columns, [*rows, [texts.get(name, "") for name in columns]]))
    except OSError as error:
        raise unwritable(path, error) from error


def _read_heading(path: Path) -> list[str] | None:
    if not path.exists():
        return None
    with path.open(newline="", encoding="utf-8") as file:
        return next(csv.reader(file), None)


def unwritable(path: Path, error: OSError) -> CondinstError:
    """The one line about a file of a run that cannot be written in the middle of it."""
    folder = path if path.is_dir() else path.parent
    return CondinstError(f"{path}: cannot be written ({error.strerror or error}); {remedy(folder)}")


def _memory() -> dict[str, float]:
    """MB of this process and of its reading processes now, and the most that its GPU has held."""
    used = {MEMORY: resident_memory() / 2**20, READERS: memory_of_children() / 2**20}
    if torch.cuda.is_available():
        used[GPU_MEMORY] = torch.cuda.max_memory_allocated() / 2**20
    return used


class Table(NamedTuple):
    """A CSV file's heading and rows, as text."""

    heading: list[str]
    rows: list[list[str]]


def read_table(path: Path) -> Table:
    """A table that `append_row` wrote; a last row without its end of line was cut off and is left out.

    Raises CondinstError for any other file.
    """
    try:
        text = path.read_bytes().decode()
        heading, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    except (OSError, ValueError, csv.Error) as error:
        raise damaged(path, "it is empty" if path.is_file() and not path.stat().st_size else error) from None
    if not text.endswith("\n"):
        rows = rows[:-1]
    if heading[:1] != [ITERATION] or (not rows and not text.endswith("\n")):
        raise damaged(path, f"its first column is not '{ITERATION}'")
    if len(set(heading)) < len(heading):
        raise damaged(path, "two columns have the same name")
    last = -1
    for number, row in enumerate(rows, start=2):
        if len(row) != len(heading) or not _is_count(row[0]):
            raise damaged(path, f"row {number} does not have the heading's columns")
        if not all(map(_is_number, row)):
            raise damaged(path, f"row {number} has text in place of a number")
        if int(row[0]) <= last:
            raise damaged(path, f"the iteration of row {number} is not above that of the row before")
        last = int(row[0])
    return Table(heading, rows)


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 20


def _is_number(text: str) -> bool:
    """Return whether a cell holds a number or is empty; the norm of a gradient may be infinite."""
    try:
        return not text or float(text) is not None
    except ValueError:
        return False


def write_table(path: Path, table: Table) -> None:
    """Replace the file; raises OSError if it cannot be written."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([table.heading, *table.rows])
    replace_file(path, text.getvalue().encode())


def damaged(path: Path, reason: object, beside: str = "") -> CondinstError:
    """Return the error for a damaged file of a run. beside: a file made from it, which must go away with it."""
    away = f"move it and {beside} away" if beside else "move it away"
    return CondinstError(
        f"{path}: not the file that this run wrote ({first_line(reason):.120}); restore it, or {away}, and --resume "
        "begins a new one"
    )


def forget_rows(path: Path, iteration: int) -> int | None:
    """Drop rows that a resumed run is about to write again, and one that was cut off while it was written.

    Returns the iteration of the last row that is left, 0 if none is, and None without a file. Raises CondinstError for
    a file that is not such a table.
    """
    if not path.exists():
        return None
    if not iteration:
        path.unlink()
        return 0
    table = read_table(path)
    kept = [row for row in table.rows if int(row[0]) <= iteration]
    if kept:
        write_table(path, table._replace(rows=kept))
    else:
        path.unlink()
    return int(kept[-1][0]) if kept else 0

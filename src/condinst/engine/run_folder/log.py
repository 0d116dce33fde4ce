"""What a run tells: a CSV of every logged iteration and a progress bar, or plain lines where there is no terminal."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from condinst.engine.stop import remedy
from condinst.errors import CondinstError
from condinst.files import replace_file

Tell = Callable[[Mapping[str, float], int], None]  # numbers by name, iteration
LOG = "log.csv"
# no losses: the first is the row's own number, the others are of the machine
ITERATION, SPEED, MEMORY, GPU_MEMORY = "iteration", "images_per_second", "memory_mb", "gpu_memory_mb"


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
        self.progress = Progress(TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.task = self.progress.add_task("", total=stop, completed=start)
        self.words = Text()  # below the bar
        self.live: Live | None = None
        forget_rows(path, start)

    def __enter__(self) -> TrainingLog:
        if self.console.is_terminal:
            self.live = Live(Group(self.progress, self.words), console=self.console)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()

    def state(self) -> dict[str, Any]:
        """What a resumed run needs to write the same rows."""
        return {"sums": dict(self.sums), "count": self.count}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.sums, self.count = dict(state["sums"]), state["count"]

    def step(self, iteration: int, values: Mapping[str, float]) -> None:
        """Take one iteration's numbers (`iteration` counts the steps done)."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1
        self.timed += 1
        self.progress.update(self.task, completed=iteration)
        if iteration % self.every == 0 or iteration == self.stop:
            self._write(iteration)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens within is no training: its time does not count."""
        started = time.perf_counter()
        yield
        self.since += time.perf_counter() - started

    def say(self, line: str) -> None:
        """A line for people, above the progress bar where there is one."""
        self.console.print(line, soft_wrap=True, highlight=False, markup=False)

    def _write(self, iteration: int) -> None:
        seconds = time.perf_counter() - self.since
        means = {name: total / self.count for name, total in self.sums.items()}
        row = {ITERATION: float(iteration)} | means | {SPEED: self.images * self.timed / seconds} | _memory()
        append_row(self.path, row)
        if self.tell is not None:
            self.tell({f"train/{name}": value for name, value in row.items() if name != ITERATION}, iteration)
        # a loss of exactly 0 is one that this data or network does not have
        words = "  ".join(f"{name} {_short(value)}" for name, value in row.items() if name != ITERATION and value)
        if self.live is not None:
            self.words.plain = words
        else:
            left = (self.stop - iteration) * seconds / self.timed / 60
            self.say(f"{iteration}/{self.stop}  {words}  left {left:.0f} min")
        self.sums, self.count, self.timed, self.since = {}, 0, 0, time.perf_counter()


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def append_row(path: Path, row: Mapping[str, float]) -> None:
    """Add a row to a CSV file, with a heading if it is new; raises CondinstError if it cannot be written."""
    fresh = not path.exists()
    try:
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            if fresh:
                writer.writeheader()
            writer.writerow({name: f"{value:.6g}" for name, value in row.items()})
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> CondinstError:
    """The one line about a file of a run that cannot be written in the middle of it."""
    folder = path if path.is_dir() else path.parent
    return CondinstError(f"{path}: cannot be written ({error.strerror or error}); {remedy(folder)}")


def _memory() -> dict[str, float]:
    """Of this process now, and the most that its GPU has held."""
    used = {MEMORY: psutil.Process().memory_info().rss / 2**20}
    if torch.cuda.is_available():
        used[GPU_MEMORY] = torch.cuda.max_memory_allocated() / 2**20
    return used


def forget_rows(path: Path, iteration: int) -> None:
    """Drop rows that a resumed run is about to write again, and one that was cut off while it was written."""
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8") as file:
        heading, *rows = [*csv.reader(file)] or [[]]
    kept = [row for row in rows if len(row) == len(heading) and float(row[0]) <= iteration]
    if not kept:
        path.unlink()
        return
    text = io.StringIO(newline="")
    csv.writer(text).writerows([heading, *kept])
    replace_file(path, text.getvalue().encode())

"""What a run tells: a CSV of every logged iteration and a progress bar, or plain lines where there is no terminal."""

from __future__ import annotations

import csv
import io
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from condinst.files import replace_file


class TrainingLog:
    """Averages losses between logged iterations. Use as a context; only the main process makes one."""

    def __init__(self, path: Path, start: int, stop: int, every: int, images_per_iteration: int) -> None:
        self.path, self.start, self.stop, self.every = path, start, stop, every
        self.images = images_per_iteration
        self.console = Console(stderr=True)
        self.sums: dict[str, float] = {}
        self.count = 0
        self.since = time.perf_counter()
        self.progress: Progress | None = None
        self.task = TaskID(0)
        _forget_after(path, start)

    def __enter__(self) -> TrainingLog:
        if self.console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self.progress = Progress(*columns, TextColumn("{task.fields[words]}"), console=self.console)
            self.task = self.progress.add_task("training", total=self.stop, completed=self.start, words="")
            self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.progress is not None:
            self.progress.stop()

    def step(self, iteration: int, values: Mapping[str, float]) -> None:
        """Take one iteration's numbers (`iteration` counts the steps done)."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1
        if self.progress is not None:
            self.progress.update(self.task, completed=iteration)
        if iteration % self.every == 0 or iteration == self.stop:
            self._write(iteration)

    def _write(self, iteration: int) -> None:
        seconds = time.perf_counter() - self.since
        row = {"iteration": float(iteration)} | {name: total / self.count for name, total in self.sums.items()}
        row["images_per_second"] = self.images * self.count / seconds
        row["memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
            1024 if sys.platform != "darwin" else 2**20
        )
        fresh = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            if fresh:
                writer.writeheader()
            writer.writerow({name: f"{value:.6g}" for name, value in row.items()})
        words = " ".join(f"{name} {value:.3g}" for name, value in row.items() if name != "iteration")
        if self.progress is not None:
            self.progress.update(self.task, words=words)
        else:
            left = (self.stop - iteration) * seconds / self.count / 60
            self.console.print(f"{iteration}/{self.stop} {words} left {left:.0f} min", soft_wrap=True, highlight=False)
        self.sums, self.count, self.since = {}, 0, time.perf_counter()


def _forget_after(path: Path, iteration: int) -> None:
    """Drop rows that a resumed run is about to write again."""
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    kept = [row for index, row in enumerate(rows) if index == 0 or (row and float(row[0]) <= iteration)]
    if not iteration:
        path.unlink()
        return
    text = io.StringIO(newline="")
    csv.writer(text).writerows(kept)
    replace_file(path, text.getvalue().encode())

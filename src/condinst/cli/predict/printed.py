"""The printed output of `condinst predict`: a line for each picture, a total, and a table (--verbose)."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from condinst.cli.results.folder import RESULTS
from condinst.cli.terminal.say import say

if TYPE_CHECKING:
    from condinst.inference.result import Result

ROWS = 10  # rows for each picture; results.json has all instances
SHOWN_EVERY, LINE_EVERY = 2.0, 60.0  # seconds between two states of the tiles
CLASSES = 8  # classes named in one line


@dataclass
class Printer:
    """Print results on standard output unless `quiet`, and count the instances."""

    quiet: bool
    verbose: bool
    started: float = field(default_factory=time.perf_counter)
    pictures: int = 0
    found: Counter[str] = field(default_factory=Counter)

    def picture(self, name: str, result: Result) -> None:
        """Print the line of a picture: name, instances of each class, and time."""
        classes = Counter(result.names.get(label, str(label)) for label in result.boxes.cls.tolist())
        self.pictures += 1
        self.found += classes
        if self.quiet:
            return
        milliseconds = sum(result.speed.values())
        say(f"{name}: {counted(classes)}, {milliseconds:.0f} ms")
        if self.verbose and len(result):
            _table(result)

    def total(self, folder: Path | None, overlays: bool) -> None:
        """Print the last line: counts, time and folder."""
        if self.quiet or not self.pictures:
            return
        kinds = f" ({counted(self.found)})" if len(self.found) > 1 else ""
        seconds = time.perf_counter() - self.started
        kept = f"; {f'overlays and {RESULTS} are' if overlays else f'{RESULTS} is'} in {folder}" if folder else ""
        pictures, instances = plural(self.pictures, "image"), plural(self.found.total(), "instance")
        say(f"{pictures}, {instances}{kinds}, {seconds:.1f} s{kept}")


def left_out(name: str, reason: str) -> None:
    """Report a source without a result on standard error."""
    say(f"left out: {reason}" if name in reason else f"left out: {name}: {reason}", err=True)


def counted(classes: Counter[str]) -> str:
    """`3 cat, 1 dog`, the most frequent first."""
    if not classes:
        return "nothing found"
    named = ", ".join(f"{count} {name}" for name, count in classes.most_common(CLASSES))
    more = len(classes) - CLASSES
    return f"{named} and {plural(more, 'more class', 'more classes')}" if more > 0 else named


def plural(count: int, one: str, many: str = "") -> str:
    """`1 image`, `2 images`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _table(result: Result) -> None:
    from condinst.cli.terminal.output import print_table

    rows: list[Sequence[str]] = []
    boxes, areas = result.boxes, result.masks.areas.tolist()
    numbers = zip(boxes.cls.tolist(), boxes.conf.tolist(), boxes.xyxy.tolist(), areas, strict=True)
    for label, score, corners, area in list(numbers)[:ROWS]:  # best first
        box = " ".join(f"{edge:.0f}" for edge in corners)
        rows.append((result.names.get(label, str(label)), f"{score:.2f}", box, str(area)))
    if len(result) > ROWS:
        rows.append((f"… and {len(result) - ROWS} more", "", "", ""))
    print_table(("class", "score", "box (x1 y1 x2 y2)", "area (px)"), rows)


@dataclass
class TileProgress:
    """Tell on standard error how far a picture of many tiles is.

    A terminal shows one line that changes; a file gets a line each minute. Pictures of a few seconds show nothing.
    """

    name: str = ""
    started: float = 0.0
    first: int = 0
    told: float = 0.0

    def __call__(self, name: str, done: int, total: int) -> None:
        """Count a tile. done: finished tiles. total: all tiles of the picture."""
        now = time.perf_counter()
        terminal = sys.stderr.isatty()
        if name != self.name or done <= self.first:
            self.name, self.started, self.first, self.told = name, now, done, now
        if done == total:
            if terminal and self.told > self.started:
                typer.echo("\r" + " " * 79 + "\r", nl=False, err=True)
            return
        if now - self.told < (SHOWN_EVERY if terminal else LINE_EVERY):
            return
        self.told = now
        from condinst.engine.run_folder.log import duration

        left = (now - self.started) / (done - self.first) * (total - done)
        line = f"{name}: {done:,} of {total:,} tiles, {duration(left)} left"
        if terminal:
            typer.echo(f"\r{line:<79.79}", nl=False, err=True)
        else:
            say(f"note: {line}", err=True)

"""What the verbs write and print: overlays, the COCO document, tables."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryFile

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from condinst.errors import CondinstError, UsageError, one_line
from condinst.files import replace_file

PLAIN_WIDTH = 120  # columns where there is no terminal to ask


def make_folder(folder: Path) -> None:
    """Create `folder` and see that it takes files; raises CondinstError if not."""
    probe = folder / f".condinst.{os.getpid()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise CondinstError(f"{folder}: cannot be written ({error.strerror}); choose another --out") from None


def write_text(path: Path, text: str) -> None:
    """Replace `path` in one step; raises CondinstError if it cannot be written."""
    try:
        replace_file(path, text.encode())
    except OSError as error:
        raise CondinstError(
            f"{path}: cannot be written ({error.strerror}); free some space or choose another folder"
        ) from None


def refuse_page(path: Path) -> None:
    """Before the work is done, not after: raise UsageError or CondinstError if a page cannot be written to `path`."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{path}: the ending must be .html")
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; name a file in it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise CondinstError(f"{path}: cannot be written ({error.strerror}); choose another place") from None


def show_progress(done_to_it: str) -> Callable[[int, int], None] | None:
    """A counter on standard error, where that is a terminal."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        typer.echo(f"\r{done_to_it} {done}/{total}" + "\n" * (done == total), nl=False, err=True)

    return show


def print_table(columns: Iterable[str], rows: Iterable[Sequence[str]], numbers_from: int = 1) -> None:
    """A table on standard output; columns from `numbers_from` on are numbers, aligned right."""
    table = Table()
    for index, column in enumerate(columns):
        table.add_column(Text(one_line(column)), justify="right" if index >= numbers_from else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))  # Text: a bracket in a file name is no markup
    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    Console(width=width).print(table)

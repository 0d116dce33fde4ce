"""Functions that write files and print tables."""

from __future__ import annotations

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

PLAIN_WIDTH = 120  # columns if there is no terminal


def write_text(path: Path, text: str) -> None:
    """Replace `path` in one step; raises CondinstError if it cannot be written."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` in one step; raises CondinstError if it cannot be written."""
    try:
        replace_file(path, content)
    except OSError as error:
        raise CondinstError(
            f"{path}: cannot be written ({error.strerror}); free some space or choose another folder"
        ) from None


def refuse_page(path: Path) -> None:
    """Check that a page can be written to `path`, before a long computation. Raises UsageError or CondinstError."""
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
    """Return a progress counter for standard error; None if standard error is not a terminal."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        typer.echo(f"\r{done_to_it} {done}/{total}" + "\n" * (done == total), nl=False, err=True)

    return show


def print_table(columns: Iterable[str], rows: Iterable[Sequence[str]], numbers_from: int = 1) -> None:
    """Print a table on standard output. Columns from `numbers_from` on hold numbers and are aligned right."""
    table = Table()
    for index, column in enumerate(columns):
        table.add_column(Text(one_line(column)), justify="right" if index >= numbers_from else "left", overflow="fold")
    for row in rows:
        table.add_row(
            *(Text(one_line(cell)) for cell in row)
        )  # Text: rich must not read a bracket in a file name as markup
    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    Console(width=width).print(table)

"""What the verbs write and print: overlays, the COCO document, tables."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, TypeVar

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from condinst.cli.sources import Source
from condinst.errors import CondinstError, UsageError, one_line
from condinst.files import replace_file

RESULTS = "results.json"
PLAIN_WIDTH = 120  # columns where there is no terminal to ask

Record = dict[str, Any]  # one COCO record
Item = TypeVar("Item")


@dataclass
class CocoDocument:
    """Predictions growing image by image into one COCO document. Category id = label + 1, as COCO counts from one."""

    names: dict[int, str]
    info: Record
    images: list[Record] = field(default_factory=list)
    annotations: list[Record] = field(default_factory=list)

    @property
    def category_ids(self) -> dict[int, int]:
        """Category id of each label."""
        return {label: label + 1 for label in self.names}

    def add(self, name: str, page: int | None, height: int, width: int, found: list[Record]) -> None:
        """Append one image, or one page of a file, and its records, which must carry the id `next_image`."""
        of_file = {} if page is None else {"page": page}
        size = {"width": width, "height": height}
        self.images.append({"id": self.next_image, "file_name": name, **of_file, **size})
        first = len(self.annotations) + 1
        self.annotations += [{"id": number, "iscrowd": 0, **record} for number, record in enumerate(found, first)]

    @property
    def next_image(self) -> int:
        """Id of the image to be added next."""
        return len(self.images) + 1

    def to_json(self) -> str:
        """The document on one line."""
        categories = [{"id": self.category_ids[label], "name": name} for label, name in self.names.items()]
        body = {"info": self.info, "images": self.images, "categories": categories, "annotations": self.annotations}
        return json.dumps(body, allow_nan=False)


def make_folder(folder: Path) -> None:
    """Create `folder` and see that it takes files; raises CondinstError if not."""
    probe = folder / f".condinst.{os.getpid()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise CondinstError(f"{folder}: cannot be written ({error.strerror}); choose another --out") from None


def overlay_paths(folder: Path, sources: Sequence[Source]) -> list[Path]:
    """A PNG in `folder` for each source: no two the same, none that is itself a source."""
    inside = folder.resolve()
    files = [source.path.resolve() for source in sources if source.path is not None]
    taken = {file.name.casefold() for file in files if file.parent == inside}
    paths = []
    for source in sources:
        name, number = f"{source.stem}.png", 1
        while name.casefold() in taken:  # some file systems do not tell A.png from a.png
            number += 1
            name = f"{source.stem}-{number}.png"
        taken.add(name.casefold())
        paths.append(folder / name)
    return paths


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


def with_progress(items: Sequence[Item], words: str) -> Iterable[Item]:
    """`items`, with a bar on standard error where that is a terminal."""
    console = Console(stderr=True)
    return track(items, words, console=console, transient=True, disable=not console.is_terminal)

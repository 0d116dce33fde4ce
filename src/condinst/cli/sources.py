"""What `predict` was asked to look at: files, folders, patterns, addresses and standard input."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from condinst.data.image import Page, list_images
from condinst.data.pages import Wanted, choose_pages
from condinst.errors import DataError, hide_secrets
from condinst.web import PICTURE_BYTES, is_address, read_address

STEM_BYTES = 140  # some file systems allow 143 for a name
STDIN = "-"


@dataclass(frozen=True, slots=True)
class Source:
    """One image to predict: a path, an address, or "-" for standard input. page: of a file of several, from 1."""

    place: Path | str
    page: int | None = None

    @property
    def name(self) -> str:
        """How messages call it: the file, and its page where it has several."""
        return self.file_name if self.page is None else f"{self.file_name} page {self.page}"

    @property
    def file_name(self) -> str:
        """How results call its file: an address without its passwords."""
        return _printable(self.place) if isinstance(self.place, Path) else hide_secrets(self.place)

    @property
    def path(self) -> Path | None:
        """Its file, unless it comes from elsewhere."""
        return self.place if isinstance(self.place, Path) else None

    @property
    def stem(self) -> str:
        """A file name without ending, safe in any folder."""
        if isinstance(self.place, Path):
            stem = _printable(Path(self.place.stem))
        else:
            stem = "stdin" if self.place == STDIN else Path(_address_path(self.name)).stem
        safe = re.sub(r"[^\w.+-]+", "_", stem).encode()[:STEM_BYTES].decode(errors="ignore")
        return (safe.lstrip(".") or "image") + ("" if self.page is None else f"-page{self.page}")

    def open(self) -> Path | Page | bytes:
        """The file, a page of it, or the bytes of an address or standard input. Raises DataError without them."""
        if isinstance(self.place, Path):
            return self.place if self.page is None else Page(self.place, self.page)
        return _read_stdin() if self.place == STDIN else read_address(self.place)


class Expanded(NamedTuple):
    """sources: each image once, in order. failures: a line for each source that means none. notes: pages not read."""

    sources: list[Source]
    failures: list[str]
    notes: list[str]


def expand_sources(sources: list[str], pages: Wanted | None = None) -> Expanded:
    """The images that `sources` mean. pages: of files of several; None is all of a TIFF and the first of others."""
    found: dict[Source, None] = {}
    failures: list[str] = []
    notes: list[str] = []
    for text in sources:
        if text == STDIN or is_address(text):
            found[Source(text)] = None
            continue
        try:
            paths = list_images([text])
        except DataError as error:
            failures.append(str(error))
            continue
        for path in paths:
            try:
                chosen = choose_pages(path, pages)
            except DataError as error:
                failures.append(str(error))
                continue
            notes += [f"{Source(path).name}: {note}" for note in chosen.notes] if chosen else []
            found.update((Source(path, page), None) for page in (chosen.wanted if chosen else (None,)))
    return Expanded(list(found), failures, notes)


def _address_path(address: str) -> str:
    """Its path part, or nothing where the address is malformed: `open` will say so."""
    try:
        return unquote(urlsplit(address).path)
    except ValueError:
        return ""


def _printable(path: Path) -> str:
    return str(path).encode("utf-8", "replace").decode()


def _read_stdin() -> bytes:
    content = sys.stdin.buffer.read(PICTURE_BYTES + 1)
    if not content:
        raise DataError("standard input: empty; send one image, for example: condinst predict - < photo.jpg")
    if len(content) > PICTURE_BYTES:
        raise DataError(f"standard input: over {PICTURE_BYTES // 2**20} MiB; save it and give the file")
    return content

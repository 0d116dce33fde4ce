"""The sources of `predict`: files, folders, patterns, addresses and standard input."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from condinst.data.pictures.image import Page, list_images
from condinst.data.pictures.pages import FIRST, Wanted, choose_pages
from condinst.errors import DataError, UsageError, hide_secrets
from condinst.web import PICTURE_BYTES, is_address, read_address

STEM_BYTES = 140  # some file systems allow 143 for a name
STDIN = "-"


@dataclass(frozen=True, slots=True)
class Source:
    """One image to predict: a path, an address, or "-" for standard input.

    page: page number from 1, for a file with several pages.
    """

    place: Path | str
    page: int | None = None

    @property
    def name(self) -> str:
        """Name in messages: the file, and the page of a file with several pages."""
        return self.file_name if self.page is None else f"{self.file_name} page {self.page}"

    @property
    def file_name(self) -> str:
        """File name in the results. Passwords of an address are hidden."""
        return _printable(self.place) if isinstance(self.place, Path) else hide_secrets(self.place)

    @property
    def path(self) -> Path | None:
        """Path of the file; None for an address or standard input."""
        return self.place if isinstance(self.place, Path) else None

    @property
    def stem(self) -> str:
        """File name without suffix, with only characters that all file systems allow."""
        if isinstance(self.place, Path):
            stem = _printable(Path(self.place.stem))
        else:
            stem = "stdin" if self.place == STDIN else Path(_address_path(self.name)).stem
        safe = re.sub(r"[^\w.+-]+", "_", stem).encode()[:STEM_BYTES].decode(errors="ignore")
        return (safe.lstrip(".") or "image") + ("" if self.page is None else f"-page{self.page}")

    def open(self) -> Path | Page | bytes:
        """Return the path, the page, or the bytes of an address or standard input. Raises DataError."""
        if isinstance(self.place, Path):
            return self.place if self.page is None else Page(self.place, self.page)
        return _read_stdin() if self.place == STDIN else read_address(self.place)


class Expanded(NamedTuple):
    """The images of all sources.

    sources: each image once, in order. failures: a line for each source without an image. notes: pages not read.
    """

    sources: list[Source]
    failures: list[str]
    notes: list[str]


def expand_sources(sources: list[str], pages: Wanted | None = None, recursive: bool = False) -> Expanded:
    """List the images of `sources`.

    pages: the pages to read from files with several; None means all pages of a TIFF and the first of other files.
    recursive: read the sub-folders of folders, too. Raises UsageError for pages of an address or of standard input.
    """
    found: dict[Source, None] = {}
    failures: list[str] = []
    notes: list[str] = []
    for text in sources:
        if text == STDIN or is_address(text):
            if pages is not None and pages.text != FIRST:
                what = "standard input" if text == STDIN else hide_secrets(text)
                raise UsageError(f"--pages: condinst reads the first page of {what}; save the file and give its path")
            found[Source(text)] = None
            continue
        try:
            paths = list_images([text], recursive)
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
    """Return the path in an address. A malformed address gives an empty path; `open` reports the address."""
    try:
        return unquote(urlsplit(address).path)
    except ValueError:
        return ""


def _printable(path: Path) -> str:
    """Return the path as text. Bytes that are no UTF-8 become escapes such as \\xff, so no two paths look alike."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _read_stdin() -> bytes:
    content = sys.stdin.buffer.read(PICTURE_BYTES + 1)
    if not content:
        raise DataError("standard input: empty; send one image, for example: condinst predict - < photo.jpg")
    if len(content) > PICTURE_BYTES:
        raise DataError(f"standard input: over {PICTURE_BYTES // 2**20} MiB; save it and give the file")
    return content

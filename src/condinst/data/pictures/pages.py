"""Pages of files: finds the pages that are pictures, and counts the pages that data sets leave out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from condinst.data.pictures.picture_file import MAX_PAGES, count_pages, count_pictures, is_copy, is_tiff, opened
from condinst.errors import DataError, UsageError

ALL, FIRST = "all", "first"
_ANY_SIZE = 10**18  # each page's size is checked when the page is read
_STARTS = 65_536  # bytes at the start of a file that tell whether it holds several pictures
_SIGNS = {b"\x89PNG": b"acTL", b"\xff\xd8\xff": b"MPF\0"}  # start of a PNG and a JPEG → sign of several pictures
_SINGLE = (b"BM", b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"\0\0\0\x0cjP", b"\xff\x4f")  # BMP, PNM, JPEG 2000


class Pages(NamedTuple):
    """wanted: page numbers from 1. notes: what a user should know about the other pages."""

    wanted: tuple[int, ...]
    notes: tuple[str, ...] = ()


class Wanted(NamedTuple):
    """The pages of a file to read: all pages, or the ranges (first, last). text: the user's input."""

    text: str
    ranges: tuple[tuple[int, int], ...] = ()

    def holds(self, page: int) -> bool:
        """Return whether the page is wanted."""
        return self.text == ALL or any(low <= page <= high for low, high in self.ranges)


def parse_pages(text: str) -> Wanted:
    """Parse `all`, `first`, or numbers and ranges such as `1,3,5-9`. Raises UsageError."""
    if text in (ALL, FIRST):
        return Wanted(text, ((1, 1),) if text == FIRST else ())
    ranges = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,9})\s*(?:-\s*([0-9]{1,9})\s*)?", part)
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= low <= high:
            raise UsageError(f"--pages: expected all, first or numbers from 1 on, such as 1,3,5-9, got '{text:.60}'")
        ranges.append((low, high))
    return Wanted(text, tuple(ranges))


def choose_pages(path: Path, wanted: Wanted | None) -> Pages | None:
    """Return the pages of a file to predict; None if the file has a single page.

    If `wanted` is None, all pages of a TIFF are predicted. "all" leaves out masks and smaller copies of a page, as in
    pyramids. Raises DataError for a file that cannot be read, has more than MAX_PAGES, or has none of the wanted pages.
    """
    if wanted is None and not is_tiff(path):
        return None
    wanted = wanted or Wanted(ALL)
    with opened(path, str(path), _ANY_SIZE) as image:
        count = count_pages(image)
        if count == 1 or wanted.text == FIRST:
            return None
        if count > MAX_PAGES and wanted.text == ALL:
            raise DataError(
                f"{path}: holds more than {MAX_PAGES:,} pages; name some of them with --pages, such as 1-100"
            )
        last = count if count <= MAX_PAGES else max(high for _, high in wanted.ranges)
        chosen = [page for page in range(1, min(last, MAX_PAGES) + 1) if wanted.holds(page)]
        if not chosen:
            raise DataError(f"{path}: has none of the pages {wanted.text}; its last page is {count}")
        small: list[int] = []
        if wanted.text == ALL and image.format == "TIFF":
            small = [page for page in chosen if is_copy(image, page)]
    pages = tuple(page for page in chosen if page not in set(small))
    notes = (
        [f"left out {len(small)} of {count} pages, because they are smaller copies of others or masks"] if small else []
    )
    if wanted.text != ALL and len(chosen) < count:
        notes.append(f"holds {count} pages; {len(chosen)} of them are read (--pages {wanted.text})")
    return Pages(pages, tuple(notes))


def note_pages(paths: Iterable[Path]) -> str | None:
    """Return a note on files with several pages: their number and an example; None if there are none."""
    several = [(path, count) for path in paths if (count := _count(path)) > 1]
    if not several:
        return None
    path, count = several[0]
    held = f"more than {MAX_PAGES:,}" if count > MAX_PAGES else str(count)
    return f"{len(several)} picture files hold several pages ({path.name} has {held}); only the first of each is read"


def _count(path: Path) -> int:
    """Return the number of pages; 1 if the file cannot be read, because the reader reports that error.

    The content decides, not the ending: a phone's MPO may be called .jpg, .png or have no ending.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_STARTS)
        sign = next((sign for begin, sign in _SIGNS.items() if start.startswith(begin)), None)
        if start.startswith(_SINGLE) or (sign is not None and sign not in start):
            return 1
        with opened(path, str(path), _ANY_SIZE) as image:
            return count_pictures(image)
    except (DataError, OSError):
        return 1

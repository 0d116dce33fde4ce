"""What `predict` was asked to look at: files, folders, patterns, addresses and standard input."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from condinst.data.image import list_images
from condinst.errors import DataError, hide_secrets
from condinst.web import PICTURE_BYTES, is_address, read_address

STEM_BYTES = 140  # some file systems allow 143 for a name
STDIN = "-"


@dataclass(frozen=True, slots=True)
class Source:
    """One image to predict: a path, an address, or "-" for standard input."""

    place: Path | str

    @property
    def name(self) -> str:
        """How messages and results call it: an address without its passwords."""
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
        return safe.lstrip(".") or "image"

    def open(self) -> Path | bytes:
        """The file, or the bytes of an address or of standard input. Raises DataError if they cannot be had."""
        if isinstance(self.place, Path):
            return self.place
        return _read_stdin() if self.place == STDIN else read_address(self.place)


def expand_sources(sources: list[str]) -> tuple[list[Source], list[str]]:
    """The images that `sources` mean, each once, in order; and a line for each source that means none."""
    found: dict[Source, None] = {}
    failures: list[str] = []
    for text in sources:
        if text == STDIN or is_address(text):
            found[Source(text)] = None
            continue
        try:
            found.update((Source(path), None) for path in list_images([text]))
        except DataError as error:
            failures.append(str(error))
    return list(found), failures


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

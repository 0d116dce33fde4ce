"""What `predict` was asked to look at: files, folders, patterns, addresses and standard input."""

from __future__ import annotations

import re
import sys
import time
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.parse import unquote, urlsplit

from condinst.data.image import list_images
from condinst.errors import DataError

DOWNLOAD_BYTES = 200 * 2**20
DOWNLOAD_SECONDS = 60.0
SILENCE_SECONDS = 15.0  # without a byte from the server
CHUNK = 2**16
STEM_LENGTH = 60  # characters: at most 240 bytes, and file systems allow 255
STDIN = "-"


@dataclass(frozen=True)
class Source:
    """One image to predict. `name` is how the user knows it, `path` its file unless it comes from elsewhere."""

    name: str
    path: Path | None = None

    @property
    def stem(self) -> str:
        """A file name without ending, safe in any folder."""
        address = _address_path(self.name) if _is_address(self.name) else self.name
        stem = "stdin" if self.name == STDIN else Path(address).stem
        return re.sub(r"[^\w.+-]+", "_", stem)[:STEM_LENGTH] or "image"

    def open(self) -> Path | bytes:
        """The file, or the bytes of an address or of standard input. Raises DataError if they cannot be had."""
        if self.path is not None:
            return self.path
        return _read_stdin() if self.name == STDIN else _download(self.name)


def expand_sources(sources: list[str]) -> tuple[list[Source], list[str]]:
    """The images that `sources` mean, each once, in order; and a line for each source that means none."""
    found: dict[Source, None] = {}
    failures: list[str] = []
    for text in sources:
        if text == STDIN or _is_address(text):
            found[Source(text)] = None
            continue
        try:
            found.update((Source(_printable(path), path), None) for path in list_images([text]))
        except DataError as error:
            failures.append(str(error))
    return list(found), failures


def _is_address(text: str) -> bool:
    return text.lower().startswith(("http://", "https://"))


def _address_path(address: str) -> str:
    """Its path part, or nothing where the address is malformed: `open` will say so."""
    try:
        return unquote(urlsplit(address).path)
    except ValueError:
        return ""


def _printable(path: Path) -> str:
    return str(path).encode("utf-8", "replace").decode()


def _read_stdin() -> bytes:
    content = sys.stdin.buffer.read(DOWNLOAD_BYTES + 1)
    if not content:
        raise DataError("standard input: empty; send one image, for example: condinst predict - < photo.jpg")
    if len(content) > DOWNLOAD_BYTES:
        raise DataError(f"standard input: over {DOWNLOAD_BYTES // 2**20} MiB; save it and give the file")
    return content


def _download(address: str) -> bytes:
    deadline = time.monotonic() + DOWNLOAD_SECONDS
    content = bytearray()
    try:
        request = urllib.request.Request(address, headers={"User-Agent": "condinst"})
        with urllib.request.urlopen(request, timeout=SILENCE_SECONDS) as response:
            while chunk := response.read1(CHUNK):
                content += chunk
                if len(content) > DOWNLOAD_BYTES or time.monotonic() > deadline:
                    limit = f"{DOWNLOAD_BYTES // 2**20} MiB or {DOWNLOAD_SECONDS:.0f} s"
                    raise DataError(f"{address}: over {limit}; download it and give the file")
    except (OSError, HTTPException, ValueError) as error:
        from condinst.weights.fetch import web_reason  # late, as it brings torch

        raise DataError(f"{address}: cannot be fetched ({web_reason(error)}); download it and give the file") from None
    return bytes(content)

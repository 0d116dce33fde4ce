"""Lists of pictures: the source @FILE names a text file with a picture on each line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from condinst.errors import DataError


def is_list(source: str) -> bool:
    """Return whether a source is a list. A file whose own name begins with @ is none."""
    try:
        return source.startswith("@") and not Path(source).exists()
    except ValueError:  # a null character; reading reports the error
        return False


def read_list(source: str) -> Iterator[str]:
    """Yield the lines of a list, without empty ones. Raises DataError for a list that cannot be read."""
    name = source[1:]
    try:
        with Path(name).open(encoding="utf-8") as lines:
            yield from (line.rstrip("\r\n") for line in lines if line.strip())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{name}: cannot be read as a list of pictures ({reason})") from None

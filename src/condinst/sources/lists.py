"""Lists of pictures: the source @FILE names a text file with a picture on each line."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeGuard, TypeVar

from condinst.errors import DataError

Place = TypeVar("Place", bound=str | os.PathLike[str])


def is_list(source: str | os.PathLike[str]) -> TypeGuard[str]:
    """Return whether a source is a list. A path object is none, nor is a file whose own name begins with @."""
    try:
        return isinstance(source, str) and source.startswith("@") and not Path(source).exists()
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


def lines_of(source: Place) -> Iterable[Place | str]:
    """The lines of a list, or the source itself. Raises DataError for a list that cannot be read."""
    return read_list(source) if is_list(source) else (source,)

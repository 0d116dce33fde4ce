"""What a user gives for pictures → single sources, one after the other."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from condinst.data.image import Page, list_images
from condinst.errors import DataError, UsageError
from condinst.web import is_address

Encoded = bytes | bytearray | memoryview | IO[bytes]
Source = str | os.PathLike[str] | Page | Encoded | NDArray[Any] | Image.Image | Tensor
Fetch = Callable[[], Source]
WANTED = "a path, folder, pattern, address, open file, bytes, array, PIL image or tensor, or a list of these"


def is_single(sources: object) -> bool:
    """Whether `sources` means one picture, so that a call returns one result. Raises UsageError for a wrong type."""
    if isinstance(sources, str | os.PathLike):
        return not _is_many(sources)
    if isinstance(sources, np.ndarray | Tensor):
        return sources.ndim < 4
    if (
        isinstance(sources, Page | bytes | bytearray | memoryview | Image.Image)
        or is_file(sources)
        or callable(sources)
    ):
        return True
    if isinstance(sources, Iterable) and not isinstance(sources, Mapping):
        return False
    raise UsageError(f"expected {WANTED}, got {type(sources).__name__}")


def expand(sources: Any) -> Iterator[Source | Fetch]:
    """The single sources in order. Folders and patterns, also inside a list, become the paths of their pictures.

    A folder or pattern without pictures stays as it is: reading it tells what is wrong.
    """
    if is_single(sources):
        yield sources
    elif isinstance(sources, str | os.PathLike):
        yield from _pictures(sources)
    else:
        for source in sources:
            if isinstance(source, str | os.PathLike):
                yield from _pictures(source)
            else:
                yield source


def is_file(source: object) -> bool:
    """Whether `source` is an open file, or something that is read like one."""
    return callable(getattr(source, "read", None))


def _pictures(place: str | os.PathLike[str]) -> Iterator[str | Path]:
    if not _is_many(place):
        yield place if isinstance(place, str) else Path(place)
        return
    try:
        yield from list_images([os.fspath(place)])
    except DataError:
        yield Path(place)


def _is_many(place: str | os.PathLike[str]) -> bool:
    """Whether it is a folder or a pattern. A file whose name looks like a pattern is a file."""
    text = os.fspath(place)
    try:
        return not is_address(text) and (os.path.isdir(text) or (glob.has_magic(text) and not os.path.isfile(text)))
    except ValueError:  # a null character; reading tells
        return False

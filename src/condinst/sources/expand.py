"""Expand folders, patterns and lists to single sources."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from condinst.data.pictures.image import Page, list_images
from condinst.errors import DataError, PictureWarning, UsageError
from condinst.sources.film import Frame, is_film, read_frames
from condinst.sources.lists import is_list, lines_of
from condinst.sources.skipped import skipped
from condinst.web import is_address

Encoded = bytes | bytearray | memoryview | IO[bytes]
Source = str | os.PathLike[str] | Page | Frame | Encoded | NDArray[Any] | Image.Image | Tensor
Fetch = Callable[[], Source]
WANTED = "a path, folder, pattern, address, film, open file, bytes, array, PIL image or tensor, or a list of these"


def is_single(sources: object) -> bool:
    """Return whether `sources` is one picture, not several. Raises UsageError for a wrong type."""
    if isinstance(sources, str | os.PathLike):
        return not _is_many(sources)
    if isinstance(sources, np.ndarray | Tensor):
        return sources.ndim < 4
    if (
        isinstance(sources, Page | Frame | bytes | bytearray | memoryview | Image.Image)
        or is_file(sources)
        or callable(sources)
    ):
        return True
    if isinstance(sources, Iterable) and not isinstance(sources, Mapping):
        return False
    raise UsageError(f"expected {WANTED}, got {type(sources).__name__}")


def expand(sources: Any) -> Iterator[Source | Fetch]:
    """Yield the single sources in order.

    A folder or pattern, also in a list, becomes the paths of its pictures, a film its frames, and "@list.txt" the
    sources on the lines of that text file. A folder or pattern without pictures stays in the list; reading it raises
    the error. A PictureWarning counts the files of a folder that are left out. Raises DataError for a text file that
    cannot be read.
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
    """Return whether `source` is an open file or another object with a `read` method."""
    return callable(getattr(source, "read", None))


def _pictures(place: str | os.PathLike[str]) -> Iterator[str | Path | Frame]:
    for line in lines_of(place):
        yield from _place(line)


def _place(place: str | os.PathLike[str]) -> Iterator[str | Path | Frame]:
    """A path, or what a folder, a pattern or a film has in it. A line of a list is no list."""
    if not _has_parts(place):
        yield place if isinstance(place, str) else Path(place)
        return
    if is_film(os.fspath(place)):
        yield from read_frames(os.fspath(place))
        return
    for line in skipped([os.fspath(place)]):
        warnings.warn(line, PictureWarning, stacklevel=2)
    try:
        yield from list_images([os.fspath(place)])
    except DataError:
        yield Path(place)


def _is_many(place: str | os.PathLike[str]) -> bool:
    """Return whether `place` is a list, a folder, a pattern or a film. An existing file is never a list."""
    return is_list(place) or _has_parts(place)


def _has_parts(place: str | os.PathLike[str]) -> bool:
    """Return whether `place` is a folder, a pattern or a film. An existing file is never a pattern."""
    text = os.fspath(place)
    try:
        return is_film(text) or (
            not is_address(text) and (os.path.isdir(text) or (glob.has_magic(text) and not os.path.isfile(text)))
        )
    except ValueError:  # a null character; reading reports the error
        return False

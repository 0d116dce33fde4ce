"""Read a single source as a picture."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from condinst.data.pictures.image import FIRST_PAGE, MAX_PIXELS, Page, Reading, convert_image, list_images, read_picture
from condinst.data.pictures.values import Remark
from condinst.data.pictures.windows.pixels import open_windows
from condinst.data.sample import Array8
from condinst.errors import (
    CondinstError,
    DataError,
    TooLargeError,
    UsageError,
    first_line,
    hide_secrets,
    out_of_memory,
)
from condinst.settings.kinds import FULL, Range
from condinst.sources.arrays import show_array, show_tensor
from condinst.sources.expand import WANTED, is_file
from condinst.sources.film import Frame
from condinst.sources.large import LargePicture
from condinst.web import is_address, read_address

CUT_ADDRESS = re.compile("https?:/[^/]", re.IGNORECASE)  # Path("http://host") keeps one slash
SCHEME = re.compile("[a-z][a-z0-9+.-]+://", re.IGNORECASE)


class Picture(NamedTuple):
    """A decoded source.

    array: (H, W, 3) uint8 RGB. path: the file, or None for another source. name: the name in messages. remarks: remarks
    for the user on how the picture was read. reading: page, range and limits that the picture was read with.
    """

    array: Array8
    path: Path | None
    name: str
    remarks: tuple[Remark, ...] = ()
    reading: Reading = FIRST_PAGE

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.array.shape[0], self.array.shape[1]

    def part(self, left: int, top: int, right: int, bottom: int) -> Array8:
        """The pixels of a window: (bottom − top, right − left, 3) uint8 RGB."""
        return self.array[top:bottom, left:right]


Opened = Picture | LargePicture


def read_source(source: Any, max_pixels: int = MAX_PIXELS, range: Range = FULL) -> Picture:
    """Decode a source. A function is called first and returns the source. range: see `InputConfig.range`.

    Raises UsageError for a wrong type or shape, and DataError for every other failure to read a source.
    """
    opened = open_source(source, lambda height, width: False, max_pixels, range)
    assert isinstance(opened, Picture)
    return opened


def open_source(
    source: Any, in_tiles: Callable[[int, int], bool], max_pixels: int = MAX_PIXELS, range: Range = FULL
) -> Opened:
    """Decode a source as `read_source` does, or open a large TIFF to read it tile by tile.

    in_tiles: whether a picture of (height, width) pixels is segmented in tiles. `max_pixels` does not limit a picture
    that is read tile by tile.
    """
    try:
        source = source() if callable(source) else source
        return _large(source, in_tiles, max_pixels, range) or _read(source, max_pixels, range)
    except CondinstError:
        raise
    except Exception as error:  # a function, or a library that reads a damaged file, may raise any exception
        if out_of_memory(error):
            raise TooLargeError(f"{name_of(source)}: cannot be used (not enough memory)") from error
        raise DataError(f"{name_of(source)}: cannot be used ({first_line(error)})") from error


def _large(source: Any, in_tiles: Callable[[int, int], bool], max_pixels: int, range: Range) -> LargePicture | None:
    """A large TIFF that is read tile by tile, or None for another source."""
    number = source.number if isinstance(source, Page) else None
    place = source.path if isinstance(source, Page) else source
    if not isinstance(place, str | os.PathLike) or not os.path.isfile(place):
        return None
    path, name = Path(place), name_of(source)
    file = open_windows(path, name, number or 1, range)
    if file is None:
        return None
    if not in_tiles(*file.size):
        file.close()
        return None
    return LargePicture(file, path, name, file.remarks, Reading(number, range, max_pixels))


def name_of(source: object) -> str:
    """Return the name of a source in messages: a path, an address without its password, or its type."""
    if isinstance(source, Page):
        return f"{source.path} page {source.number}"
    if isinstance(source, Frame):
        return source.name
    if isinstance(source, str):
        return hide_secrets(source)
    if isinstance(source, os.PathLike):
        return os.fsdecode(source)
    if isinstance(source, np.ndarray | Tensor):
        kind = "array" if isinstance(source, np.ndarray) else "tensor"
        return f"{kind} {tuple(source.shape)} {source.dtype}"
    if isinstance(source, Image.Image):
        return "PIL image"
    if isinstance(source, bytes | bytearray | memoryview):
        return "image bytes"
    if is_file(source):
        name = getattr(source, "name", None)
        return name if isinstance(name, str) else "open file"
    return "source function" if callable(source) else type(source).__name__


def _read(source: Any, max_pixels: int, range: Range) -> Picture:
    name = name_of(source)
    if isinstance(source, str) and SCHEME.match(source):
        return _encoded(_fetch(source, name), name, max_pixels, range)
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        if not path.is_file():
            _complain(os.fspath(source))
        return _file(path, name, Reading(None, range, max_pixels))
    if isinstance(source, Frame):
        return Picture(source.array, None, name)
    if isinstance(source, Page):
        return _file(Path(source.path), name, Reading(source.number, range, max_pixels))
    if isinstance(source, bytes | bytearray | memoryview):
        return _encoded(bytes(source), name, max_pixels, range)
    if is_file(source):
        return _encoded(_content(source, name), name, max_pixels, range)
    if isinstance(source, Image.Image):
        decoded = convert_image(source, name, max_pixels, range)
        return Picture(decoded.pixels, None, name, decoded.remarks)
    if isinstance(source, np.ndarray | Tensor):
        shown = show_array(source, name, range) if isinstance(source, np.ndarray) else show_tensor(source, name, range)
        return Picture(shown.pixels, None, name, shown.remarks)
    raise UsageError(f"picture: expected {WANTED}, got {name}")


def _complain(place: str) -> None:
    """Raise DataError for a path that is not a file."""
    if not place:
        raise DataError("picture: the path is empty")
    if CUT_ADDRESS.match(place):
        raise DataError(f"{place}: no such file; a Path loses a slash of an address, so give the address as text")
    if not os.path.exists(place) and re.fullmatch(r"[\w-]+", place):  # like the name of a model
        raise DataError(f"{place}: no such file or folder; if it is a model, give a picture and model='{place}'")
    list_images([place])


def _file(path: Path, name: str, reading: Reading) -> Picture:
    decoded = read_picture(path, name, reading)
    return Picture(decoded.pixels, path, name, decoded.remarks, reading)


def _encoded(content: bytes, name: str, max_pixels: int, range: Range) -> Picture:
    decoded = read_picture(content, name, Reading(None, range, max_pixels))
    return Picture(decoded.pixels, None, name, decoded.remarks)


def _fetch(address: str, name: str) -> bytes:
    if not is_address(address):
        raise DataError(f"{name}: condinst fetches http and https addresses only; download it and give the file")
    return read_address(address)


def _content(file: Any, name: str) -> bytes:
    """Read a whole open file, from the beginning if the file is seekable, as Pillow does."""
    if getattr(file, "seekable", lambda: False)():
        file.seek(0)
    content = None if isinstance(file, io.TextIOBase) else file.read()
    if not isinstance(content, bytes):
        raise UsageError(f"{name}: is open as text; open it with mode 'rb'")
    return content

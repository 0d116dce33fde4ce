"""The pixels of a result's picture, without decoding a large TIFF as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from condinst.data.pictures.windows.pixels import LARGE, Windows, open_windows
from condinst.data.sample import Array8

if TYPE_CHECKING:
    from condinst.inference.result import Result

Part = Callable[[int, int, int, int], Array8]


def is_large(result: Result[Any]) -> bool:
    """Whether the picture has so many pixels that overlays are drawn smaller."""
    return result.orig_shape[0] * result.orig_shape[1] >= LARGE


@contextmanager
def parts(result: Result[Any]) -> Iterator[Part]:
    """A function of left, top, right and bottom → (bottom − top, right − left, 3) uint8 RGB.

    Raises UsageError if there is no picture.
    """
    file = _windows(result)
    if file is not None:
        with closing(file):
            yield file.part
        return
    picture = result.orig_img
    yield lambda left, top, right, bottom: picture[top:bottom, left:right]


def shrunk(result: Result[Any], step: int) -> Array8:
    """The picture with the mean of each `step` × `step` pixels. Raises UsageError if there is no picture."""
    file = _windows(result)
    if file is not None:
        with closing(file):
            return file.shrunk(step)
    return np.asarray(Image.fromarray(result.orig_img).reduce(step))


def _windows(result: Result[Any]) -> Windows | None:
    if result.image is not None or result.path is None:
        return None
    reading = result.reading
    return open_windows(result.path, result.name or str(result.path), reading.page or 1, reading.range)

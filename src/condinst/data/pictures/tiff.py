"""TIFFs with pixels that Pillow does not know, read by tifffile (the extra "tiff").

These are 64-bit numbers, half floats, 10 and 14 bits, big-endian 32-bit numbers without a sign, colours of more than 16
bits, and grey with alpha in 16 bits.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from condinst.errors import DataError

ORIENTATION = 0x0112  # tag of EXIF and TIFF
WHITE_IS_ZERO, COLOURS = 0, 2  # values of PhotometricInterpretation
KNOWN = (WHITE_IS_ZERO, 1, COLOURS)
AXES = ("YX", "YXS", "SYX")  # rows, columns, samples of a pixel
INSTALL = "pip install 'condinst[tiff]'"


class Values(NamedTuple):
    """The pixels of a page. values: (H, W) or (H, W, 3), not turned. alpha: (H, W), or None. largest: of its bits."""

    values: NDArray[Any]
    alpha: NDArray[Any] | None
    largest: int


class TiffArray(Image.Image):
    """An open TIFF whose header was read, for the code that expects an open Pillow image."""

    format = "TIFF"

    def __init__(self, file: Any) -> None:
        super().__init__()
        self._file = file
        self.seek(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def n_frames(self) -> int:
        """The number of pages. Reading ends at the first damaged one, and at 10,001."""
        return sum(1 for _ in self._pages())

    def _pages(self) -> Iterator[Any]:
        for number in range(10_001):
            try:
                yield self._file.pages[number]
            except Exception:  # the end, or damage
                return

    def seek(self, frame: int) -> None:
        """Turn to a page, counted from 0. Raises EOFError without such a page, DataError for pixels of no picture."""
        if frame < 0:
            raise EOFError
        try:
            page = self._file.pages[frame]
        except IndexError:
            raise EOFError from None
        self._page, self._frame = page, frame
        kind = None if page.dtype is None else np.dtype(page.dtype).kind
        if kind not in ("b", "u", "i", "f") or page.axes not in AXES or page.photometric not in KNOWN:
            found = f"{page.samplesperpixel} channels of {page.dtype or 'unknown pixels'}"
            raise DataError(f"a TIFF of {found} ({getattr(page.photometric, 'name', '?')}); save it as grey or RGB")
        colours = page.samplesperpixel - self._has_alpha
        if colours != (3 if page.photometric == COLOURS else 1):
            raise DataError(f"a TIFF of {page.samplesperpixel} channels; save the one or the three that are meant")
        self._size = (page.imagewidth, page.imagelength)
        self._mode = "RGB" if colours == 3 else "F" if kind == "f" else "I"

    def tell(self) -> int:
        return int(self._frame)

    @property
    def _has_alpha(self) -> bool:
        return bool(self._page.extrasamples) and int(self._page.extrasamples[-1]) in (1, 2)

    @property
    def bytes_each(self) -> int:
        """The bytes of a decoded pixel."""
        return int(np.dtype(self._page.dtype).itemsize * self._page.samplesperpixel)

    @property
    def white_is_zero(self) -> bool:
        return bool(self._page.photometric == WHITE_IS_ZERO)

    def tag(self, number: int) -> Any:
        """The value of a tag; None if the page lacks it."""
        found = self._page.tags.get(number)
        return None if found is None else found.value

    def getexif(self) -> Image.Exif:
        exif = Image.Exif()
        if (value := self.tag(ORIENTATION)) is not None:
            exif[ORIENTATION] = int(value)
        return exif

    def load(self) -> None:
        """Do nothing: `read` decodes."""

    def read(self) -> Values:
        """Decode the page."""
        array = self._page.asarray(maxworkers=1)
        array = array.reshape(self._page.shape)
        if self._page.axes == "SYX":
            array = np.moveaxis(array, 0, 2)
        alpha = array[..., -1] if self._has_alpha else None
        values = array[..., :-1] if alpha is not None else array
        values = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
        bits = self._page.bitspersample if values.dtype.kind == "u" else 16
        if values.dtype.kind == "b":
            values, bits = values.astype(np.uint8) * np.uint8(255), 8
        return Values(np.ascontiguousarray(values), alpha, (1 << min(int(bits), 16)) - 1)


def open_tiff(source: Path | bytes) -> TiffArray:
    """Open a TIFF with tifffile. Raises DataError if tifffile is not installed or the pixels are no picture."""
    try:
        import tifffile
    except ImportError:
        raise DataError(
            "a TIFF with pixels that need the extra 'tiff', such as 64-bit numbers or half floats "
            f"({INSTALL}); install it, or save the picture as 8-bit, 16-bit or 32-bit float"
        ) from None
    # without a handler, Python prints tifffile's warnings; what matters of them becomes an error here
    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    return TiffArray(tifffile.TiffFile(io.BytesIO(source) if isinstance(source, bytes) else source))

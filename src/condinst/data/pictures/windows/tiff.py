"""The tiles and strips of a TIFF, read by tifffile (the extra "tiff")."""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from condinst.data.pictures.tiff import COLOURS, ORIENTATION, WHITE_IS_ZERO
from condinst.data.pictures.windows.parts import Kind, Placed
from condinst.errors import DataError, first_line, out_of_memory

CACHE = 160_000_000  # bytes of decoded parts that are kept for the next windows
LARGEST_PART = 400_000_000  # bytes of one decoded part; a file of larger ones is read as a whole
_YCBCR, _JPEG = 6, 7  # values of PhotometricInterpretation and Compression
_CONTIGUOUS = 1  # value of PlanarConfiguration: the colours of a pixel lie side by side


class TiffParts:
    """A page of a TIFF. mapped: the pixels of an uncompressed page as a view of the file, (H, W, samples), or None."""

    def __init__(self, file: Any, page: Any, mapped: NDArray[Any] | None) -> None:
        self._file, self._page, self._mapped = file, page, mapped
        self._kept: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._rows, self._columns = int(page.chunks[0]), int(page.chunks[1])
        self._across = math.ceil(page.imagewidth / self._columns)
        dtype = np.dtype(page.dtype)
        self.kind = Kind(
            int(page.imagelength),
            int(page.imagewidth),
            int(page.samplesperpixel),
            dtype,
            _has_alpha(page),
            bool(page.photometric == WHITE_IS_ZERO),
            int(page.bitspersample) if dtype.kind == "u" else 16,
            self._rows,
        )

    def close(self) -> None:
        self._file.close()

    def read(self, left: int, top: int, right: int, bottom: int) -> Iterator[Placed]:
        if self._mapped is not None:
            yield left, top, self._mapped[top:bottom, left:right]
            return
        for row in range(top // self._rows, (bottom - 1) // self._rows + 1):
            for column in range(left // self._columns, (right - 1) // self._columns + 1):
                yield column * self._columns, row * self._rows, self._decoded(row * self._across + column)

    def _decoded(self, index: int) -> NDArray[Any]:
        """A part of the file, decoded now or a moment ago."""
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        part = self._decode(index)
        self._kept[index] = part
        while len(self._kept) > 1 and sum(one.nbytes for one in self._kept.values()) > CACHE:
            self._kept.popitem(last=False)
        return part

    def _decode(self, index: int) -> NDArray[Any]:
        page = self._page
        row, column = divmod(index, self._across)
        rows = min(self._rows, self.kind.height - row * self._rows)  # tiles reach beyond the page
        columns = min(self._columns, self.kind.width - column * self._columns)
        try:
            count = page.databytecounts[index]
            if not count:  # a part that was never written
                return np.full((rows, columns, self.kind.samples), page.nodata, page.dtype)
            self._file.filehandle.seek(page.dataoffsets[index])
            data = self._file.filehandle.read(count)
            if len(data) < count:
                raise ValueError("the file ends too early")
            decoded, _, shape = page.decode(data, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader)
            array: NDArray[Any] = decoded[0, : min(shape[1], rows), : min(shape[2], columns)]
            return array
        except Exception as error:  # the decoders raise errors of every kind on damaged files
            if out_of_memory(error):
                raise
            place = f"the part at x={column * self._columns}, y={row * self._rows} is damaged"
            raise DataError(f"{place} ({first_line(error)}); replace the file") from None


def open_tiff_parts(path: Path, page: int, least: int) -> TiffParts | None:
    """Open a page, counted from 1, of at least `least` pixels.

    Returns None for a smaller page, without tifffile, and for a page that must be decoded as a whole: turned pictures,
    colours in separate planes, palettes, 16-bit transparency, and parts of more than LARGEST_PART bytes.
    """
    try:
        import tifffile
    except ImportError:
        return None
    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    file = None
    try:
        file = tifffile.TiffFile(path)
        found: Any = file.pages[page - 1]
        found = found.aspage()
        if found.imagelength * found.imagewidth >= least and _suits(found):
            return TiffParts(file, found, _mapped(path, page, found))
    except Exception:  # a damaged header; reading the whole picture reports it
        pass
    if file is not None:
        file.close()
    return None


def _mapped(path: Path, number: int, page: Any) -> NDArray[Any] | None:
    if not page.is_memmappable:
        return None
    import tifffile

    values: NDArray[Any] = tifffile.memmap(path, page=number - 1, mode="r")
    return values.reshape(page.imagelength, page.imagewidth, page.samplesperpixel)


def _suits(page: Any) -> bool:
    """Whether the parts of a page can be decoded one by one, and its pixels are grey or RGB."""
    if page.axes not in ("YX", "YXS") or page.planarconfig != _CONTIGUOUS:
        return False
    dtype, alpha = np.dtype(page.dtype), _has_alpha(page)
    colours = page.samplesperpixel - alpha
    jpeg = page.photometric == _YCBCR and page.compression == _JPEG
    grey = colours == 1 and page.photometric in (WHITE_IS_ZERO, 1)
    if not grey and not (colours == 3 and (page.photometric == COLOURS or jpeg)):
        return False
    turned = page.tags.get(ORIENTATION)
    part = page.chunks[0] * page.chunks[1] * page.samplesperpixel * dtype.itemsize
    return (
        dtype.kind in "uif"
        and (dtype == np.uint8 or dtype.itemsize > 1)
        and (turned is None or int(turned.value) == 1)
        and (not alpha or dtype == np.uint8)  # the whole picture composes transparency in 8 bits
        and (part <= LARGEST_PART or page.is_memmappable)
        and page.bitspersample == 8 * dtype.itemsize
    )


def _has_alpha(page: Any) -> bool:
    return bool(page.extrasamples) and int(page.extrasamples[-1]) in (1, 2)

"""Large TIFFs in windows: only the tiles or strips that a window touches are decoded.

tifffile (the extra "tiff") reads the parts of the file. The pixels of a window equal those of `read_image`.
"""

from __future__ import annotations

import builtins
import logging
import math
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from condinst.data.pictures.picture_file import is_tiff
from condinst.data.pictures.tiff import COLOURS, ORIENTATION, WHITE_IS_ZERO
from condinst.data.pictures.values import SAMPLES, Remark, choose_range, map_values, show_values
from condinst.data.sample import Array8
from condinst.errors import DataError, first_line, out_of_memory
from condinst.settings.kinds import FULL, Range

LARGE = 64_000_000  # pixels from which a file is read in windows, and from which an overlay is drawn smaller
CACHE = 160_000_000  # bytes of decoded parts that are kept for the next windows
LARGEST_PART = 400_000_000  # bytes of one decoded part; a file of larger ones is read as a whole
_YCBCR, _JPEG = 6, 7  # values of PhotometricInterpretation and Compression
_CONTIGUOUS = 1  # value of PlanarConfiguration: the colours of a pixel lie side by side


class WindowedTiff:
    """A page of a TIFF that is read in windows. Use `open_windows`.

    height, width: pixels of the page. remarks: for the user, on the values of pixels of more than 8 bits.
    """

    def __init__(self, file: Any, page: Any, name: str, range: Range, mapped: NDArray[Any] | None) -> None:
        self.height, self.width = int(page.imagelength), int(page.imagewidth)
        self._file, self._page, self._name, self._mapped = file, page, name, mapped
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._rows, self._columns = int(page.chunks[0]), int(page.chunks[1])
        self._across = math.ceil(self.width / self._columns)
        self._alpha = bool(page.extrasamples) and int(page.extrasamples[-1]) in (1, 2)
        self._limits = 0.0, 255.0
        self._upper_byte = False
        self.remarks: tuple[Remark, ...] = ()
        if np.dtype(page.dtype) != np.uint8:
            self._upper_byte = page.samplesperpixel - self._alpha == 3 and page.dtype == np.uint16 and range == FULL
            bits = int(page.bitspersample) if np.dtype(page.dtype).kind == "u" else 16
            self._learn_range(range, (1 << min(bits, 16)) - 1)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.height, self.width

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def part(self, left: int, top: int, right: int, bottom: int) -> Array8:
        """The pixels of a window: (bottom − top, right − left, 3) uint8 RGB.

        Raises DataError for a damaged part of the file.
        """
        values = np.zeros((bottom - top, right - left, self._page.samplesperpixel), self._page.dtype)
        with self._lock:
            for x, y, part in self._parts(left, top, right, bottom):
                x0, y0 = max(x, left), max(y, top)
                x1, y1 = min(x + part.shape[1], right), min(y + part.shape[0], bottom)
                values[y0 - top : y1 - top, x0 - left : x1 - left] = part[y0 - y : y1 - y, x0 - x : x1 - x]
        return self._show(values)

    def shrunk(self, step: int) -> Array8:
        """The whole page with the mean of each `step` × `step` pixels: (⌈height / step⌉, ⌈width / step⌉, 3) uint8."""
        small = np.empty((-(-self.height // step), -(-self.width // step), 3), np.uint8)
        band = step * max(1, round(self._rows / step), math.ceil(64 / step))
        for top in range(0, self.height, band):
            rows = self.part(0, top, self.width, min(top + band, self.height))
            reduced = np.asarray(Image.fromarray(rows).reduce(step))
            small[top // step : top // step + len(reduced)] = reduced
        return small

    def _parts(self, left: int, top: int, right: int, bottom: int) -> Iterator[tuple[int, int, NDArray[Any]]]:
        """The decoded tiles or strips that touch a window: x, y and (rows, columns, samples)."""
        if self._mapped is not None:
            yield left, top, self._mapped[top:bottom, left:right]
            return
        for row in range(top // self._rows, (bottom - 1) // self._rows + 1):
            for column in range(left // self._columns, (right - 1) // self._columns + 1):
                part = self._decoded(row * self._across + column)
                yield column * self._columns, row * self._rows, part

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
        try:
            count = page.databytecounts[index]
            if not count:  # a part that was never written
                return np.full((*self._shape_of(index), page.samplesperpixel), page.nodata, page.dtype)
            self._file.filehandle.seek(page.dataoffsets[index])
            data = self._file.filehandle.read(count)
            if len(data) < count:
                raise ValueError("the file ends too early")
            decoded, _, shape = page.decode(data, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader)
            rows, columns = self._shape_of(index)  # tiles reach beyond the page
            array: NDArray[Any] = decoded[0, : min(shape[1], rows), : min(shape[2], columns)]
            return array
        except Exception as error:  # the decoders raise errors of every kind on damaged files
            if out_of_memory(error):
                raise
            row, column = divmod(index, self._across)
            place = f"the part at x={column * self._columns}, y={row * self._rows} is damaged"
            raise DataError(f"{self._name}: {place} ({first_line(error)}); replace the file") from None

    def _shape_of(self, index: int) -> tuple[int, int]:
        """The rows and columns of a part inside the page."""
        row, column = divmod(index, self._across)
        return min(self._rows, self.height - row * self._rows), min(self._columns, self.width - column * self._columns)

    def _show(self, values: NDArray[Any]) -> Array8:
        """Values of a window → 8-bit RGB, by the rules of `read_image`."""
        alpha = values[..., -1] if self._alpha else None
        colours = values[..., :-1] if self._alpha else values
        if colours.dtype == np.uint8:
            pixels = np.repeat(colours, 3, axis=2) if colours.shape[2] == 1 else colours
        elif self._upper_byte:
            pixels = (colours >> 8).astype(np.uint8)  # as Pillow reads colours of 16 bits
        else:
            pixels = map_values(colours[..., 0] if colours.shape[2] == 1 else colours, *self._limits)
        if self._page.photometric == WHITE_IS_ZERO:
            pixels = 255 - pixels
        if alpha is not None:
            layer = Image.fromarray(np.concatenate((pixels, alpha[..., None]), axis=2))
            black = Image.new("RGBA", layer.size, (0, 0, 0, 255))
            pixels = np.asarray(Image.alpha_composite(black, layer).convert("RGB"))
        return np.ascontiguousarray(pixels)

    def _learn_range(self, range: Range, largest: int) -> None:
        """Find the range of the values by the same sample as for a whole picture, and the remarks on the values."""
        colours = self._page.samplesperpixel - self._alpha
        step = max(self.height * self.width * colours // SAMPLES, 1)
        some: list[NDArray[Any]] = []
        for top in builtins.range(0, self.height, self._rows):
            for x, y, part in self._parts(0, top, self.width, min(top + self._rows, self.height)):
                rows, columns = np.arange(y, y + part.shape[0]), np.arange(x, x + part.shape[1])
                first = (rows[:, None] * self.width + columns) * colours
                some.append(part[..., :colours][(first[..., None] + np.arange(colours)) % step == 0])
        sample = np.concatenate(some)[None].astype(self._page.dtype)
        try:
            remarks = show_values(sample, range, largest).remarks
            self._limits = choose_range(sample, range, largest)
        except DataError as error:
            raise type(error)(f"{self._name}: {error}") from None
        told = (one._replace(message=f"in a sample of its pixels, {one.message}") for one in remarks)
        self.remarks = tuple(told)


def open_windows(
    path: Path, name: str, page: int = 1, range: Range = FULL, least: int | None = None
) -> WindowedTiff | None:
    """Open a page, counted from 1, of a TIFF with at least `least` pixels (LARGE by default).

        file = open_windows(Path("slide.tif"), "slide.tif")
        pixels = file.part(1000, 2000, 1512, 2512)

    Returns None for a smaller picture, for another format, without tifffile, and for a file that must be decoded as a
    whole: turned pictures, colours in separate planes, palettes, and parts of more than LARGEST_PART bytes. Raises
    DataError for values that do not fit the range.
    """
    if not is_tiff(path):
        return None
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
        suits = found.imagelength * found.imagewidth >= (LARGE if least is None else least) and _suits(found)
    except Exception:  # a damaged header; reading the whole picture reports it
        suits = False
    if not suits:
        if file is not None:
            file.close()
        return None
    try:
        return WindowedTiff(file, found, name, range, _mapped(path, page, found))
    except BaseException:
        assert file is not None
        file.close()
        raise


def _mapped(path: Path, number: int, page: Any) -> NDArray[Any] | None:
    """The pixels of an uncompressed page as a view of the file: (H, W, samples). None for other pages."""
    if not page.is_memmappable:
        return None
    import tifffile

    values: NDArray[Any] = tifffile.memmap(path, page=number - 1, mode="r")
    return values.reshape(page.imagelength, page.imagewidth, page.samplesperpixel)


def _suits(page: Any) -> bool:
    """Whether the parts of a page can be decoded one by one, and its pixels are grey or RGB."""
    if page.axes not in ("YX", "YXS") or page.planarconfig != _CONTIGUOUS:
        return False
    kind = np.dtype(page.dtype)
    alpha = bool(page.extrasamples) and int(page.extrasamples[-1]) in (1, 2)
    colours = page.samplesperpixel - alpha
    jpeg = page.photometric == _YCBCR and page.compression == _JPEG
    grey = colours == 1 and page.photometric in (WHITE_IS_ZERO, 1)
    if not grey and not (colours == 3 and (page.photometric == COLOURS or jpeg)):
        return False
    tag = page.tags.get(ORIENTATION)
    part = page.chunks[0] * page.chunks[1] * page.samplesperpixel * kind.itemsize
    return (
        kind.kind in "uif"
        and (kind == np.uint8 or kind.itemsize > 1)
        and (tag is None or int(tag.value) == 1)
        and (not alpha or kind == np.uint8)  # the whole picture composes transparency in 8 bits
        and (part <= LARGEST_PART or page.is_memmappable)
        and page.bitspersample == 8 * kind.itemsize
    )

"""Windows of a large file → (H, W, 3) uint8 RGB. The pixels of a window equal those of `read_image`."""

from __future__ import annotations

import builtins
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from condinst.data.pictures.picture_file import is_tiff
from condinst.data.pictures.values import SAMPLES, Remark, choose_range, map_values, show_values
from condinst.data.pictures.windows.parts import Parts, Placed
from condinst.data.pictures.windows.raster import is_jpeg_2000, open_raster_parts
from condinst.data.pictures.windows.tiff import open_tiff_parts
from condinst.data.sample import Array8
from condinst.errors import CondinstError, DataError, first_line, out_of_memory
from condinst.settings.kinds import FULL, Range

LARGE = 64_000_000  # pixels from which a file is read in windows, and from which an overlay is drawn smaller


class Windows:
    """A picture that is read in windows. Use `open_windows`.

    height, width: pixels. remarks: for the user, on the values of pixels of more than 8 bits.
    """

    def __init__(self, parts: Parts, name: str, range: Range) -> None:
        self._parts, self._kind, self._name = parts, parts.kind, name
        self.height, self.width = parts.kind.height, parts.kind.width
        self._lock = threading.Lock()
        self._limits = 0.0, 255.0
        self._upper_byte = False
        self.remarks: tuple[Remark, ...] = ()
        if self._kind.dtype != np.uint8:
            colours = self._kind.samples - self._kind.alpha
            self._upper_byte = colours == 3 and self._kind.dtype == np.uint16 and range == FULL
            self._learn_range(range, (1 << min(self._kind.bits, 16)) - 1)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.height, self.width

    def close(self) -> None:
        """Close the file."""
        self._parts.close()

    def part(self, left: int, top: int, right: int, bottom: int) -> Array8:
        """The pixels of a window: (bottom − top, right − left, 3) uint8 RGB.

        Raises DataError for a damaged part of the file.
        """
        values = np.zeros((bottom - top, right - left, self._kind.samples), self._kind.dtype)
        with self._lock:
            for x, y, part in self._read(left, top, right, bottom):
                x0, y0 = max(x, left), max(y, top)
                x1, y1 = min(x + part.shape[1], right), min(y + part.shape[0], bottom)
                values[y0 - top : y1 - top, x0 - left : x1 - left] = part[y0 - y : y1 - y, x0 - x : x1 - x]
        return self._show(values)

    def _read(self, left: int, top: int, right: int, bottom: int) -> Iterator[Placed]:
        """The parts that touch a window. Raises DataError for a damaged part."""
        try:
            yield from self._parts.read(left, top, right, bottom)
        except CondinstError as error:
            raise type(error)(f"{self._name}: {error}") from None
        except Exception as error:  # the decoders raise errors of every kind on damaged files
            if out_of_memory(error):
                raise
            place = f"the window at x={left}, y={top} cannot be read"
            raise DataError(f"{self._name}: {place} ({first_line(error)}); replace the file") from None

    def shrunk(self, step: int) -> Array8:
        """The whole picture with the mean of each `step` × `step` pixels: (⌈H / step⌉, ⌈W / step⌉, 3) uint8."""
        small = np.empty((-(-self.height // step), -(-self.width // step), 3), np.uint8)
        band = step * max(1, round(self._kind.rows / step), math.ceil(64 / step))
        for top in range(0, self.height, band):
            rows = self.part(0, top, self.width, min(top + band, self.height))
            reduced = np.asarray(Image.fromarray(rows).reduce(step))
            small[top // step : top // step + len(reduced)] = reduced
        return small

    def _show(self, values: NDArray[Any]) -> Array8:
        """Values of a window → 8-bit RGB, by the rules of `read_image`."""
        alpha = values[..., -1] if self._kind.alpha else None
        colours = values[..., :-1] if self._kind.alpha else values
        if colours.dtype == np.uint8:
            pixels = np.repeat(colours, 3, axis=2) if colours.shape[2] == 1 else colours
        elif self._upper_byte:
            pixels = (colours >> 8).astype(np.uint8)  # as Pillow reads colours of 16 bits
        else:
            pixels = map_values(colours[..., 0] if colours.shape[2] == 1 else colours, *self._limits)
        if self._kind.inverted:
            pixels = 255 - pixels
        if alpha is not None:
            layer = Image.fromarray(np.concatenate((pixels, alpha[..., None]), axis=2))
            black = Image.new("RGBA", layer.size, (0, 0, 0, 255))
            pixels = np.asarray(Image.alpha_composite(black, layer).convert("RGB"))
        return np.ascontiguousarray(pixels)

    def _learn_range(self, range: Range, largest: int) -> None:
        """Find the range of the values by the same sample as for a whole picture, and the remarks on the values."""
        colours = self._kind.samples - self._kind.alpha
        step = max(self.height * self.width * colours // SAMPLES, 1)
        some: list[NDArray[Any]] = []
        for top in builtins.range(0, self.height, self._kind.rows):
            for x, y, part in self._read(0, top, self.width, min(top + self._kind.rows, self.height)):
                rows, columns = np.arange(y, y + part.shape[0]), np.arange(x, x + part.shape[1])
                first = (rows[:, None] * self.width + columns) * colours
                some.append(part[..., :colours][(first[..., None] + np.arange(colours)) % step == 0])
        sample = np.concatenate(some)[None].astype(self._kind.dtype)
        try:
            remarks = show_values(sample, range, largest).remarks
            self._limits = choose_range(sample, range, largest)
        except DataError as error:
            raise type(error)(f"{self._name}: {error}") from None
        told = (one._replace(message=f"in a sample of its pixels, {one.message}") for one in remarks)
        self.remarks = tuple(told)


def open_windows(path: Path, name: str, page: int = 1, range: Range = FULL, least: int | None = None) -> Windows | None:
    """Open a page, counted from 1, of a TIFF or JPEG 2000 file with at least `least` pixels (LARGE by default).

        file = open_windows(Path("slide.tif"), "slide.tif")
        pixels = file.part(1000, 2000, 1512, 2512)

    Returns None for a smaller picture, for another format, without tifffile or rasterio, and for a file that must be
    decoded as a whole (see `open_tiff_parts`). Raises DataError for values that do not fit the range.
    """
    limit = LARGE if least is None else least
    parts: Parts | None = None
    if is_tiff(path):
        parts = open_tiff_parts(path, page, limit)
    elif page == 1 and is_jpeg_2000(path):
        parts = open_raster_parts(path, limit)
    if parts is None:
        return None
    try:
        return Windows(parts, name, range)
    except BaseException:
        parts.close()
        raise

"""JPEG 2000 files, read window by window by rasterio where it is installed."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from condinst.data.pictures.windows.parts import Kind, Placed

DRIVER = "JP2OpenJPEG"  # of GDAL; no other format is opened
ROWS = 512  # of a part, because the file has resolutions and no strips
_STARTS = (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")  # a file and a bare code stream


class RasterParts:
    """An open file of rasterio."""

    def __init__(self, file: Any) -> None:
        self._file = file
        dtype = np.dtype(file.dtypes[0])
        bits = file.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", 8 * dtype.itemsize)
        self.kind = Kind(file.height, file.width, file.count, dtype, file.count == 4, False, int(bits), ROWS)

    def close(self) -> None:
        self._file.close()

    def read(self, left: int, top: int, right: int, bottom: int) -> Iterator[Placed]:
        values = self._file.read(window=((top, bottom), (left, right)))
        yield left, top, np.moveaxis(values, 0, 2)


def is_jpeg_2000(path: Path) -> bool:
    """Whether a file begins like JPEG 2000; False if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(12).startswith(_STARTS)
    except OSError:
        return False


def open_raster_parts(path: Path, least: int) -> RasterParts | None:
    """Open a JPEG 2000 file of at least `least` pixels, grey or RGB.

    Returns None for a smaller picture, without rasterio, and for other pixels.
    """
    file = open_raster(path)
    if file is None:
        return None
    dtypes = {np.dtype(name) for name in file.dtypes}
    suits = file.count in (1, 3, 4) and dtypes <= {np.dtype(np.uint8), np.dtype(np.uint16)} and len(dtypes) == 1
    if suits and file.height * file.width >= least and not (file.count == 4 and np.dtype(np.uint16) in dtypes):
        return RasterParts(file)
    file.close()
    return None


def open_raster(path: Path) -> Any:
    """The file as rasterio opens it, or None."""
    try:
        import rasterio
    except ImportError:
        return None
    logging.getLogger("rasterio").addHandler(logging.NullHandler())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a file without a georeference
            return rasterio.open(path, driver=DRIVER)
    except Exception:  # a damaged header; reading the whole picture reports it
        return None

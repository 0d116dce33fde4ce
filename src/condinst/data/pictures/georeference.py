"""Where a GeoTIFF or a JPEG 2000 file lies on the earth."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from condinst.data.pictures.picture_file import is_tiff
from condinst.data.pictures.pillow_limit import without_limit
from condinst.data.pictures.windows.raster import is_jpeg_2000, open_raster

# Tags and keys of OGC GeoTIFF 1.1, https://docs.ogc.org/is/19-008r4/19-008r4.html
_SCALE, _TIEPOINT, _TRANSFORMATION, _KEYS = 33550, 33922, 34264, 34735
_RASTER_TYPE, _GEOGRAPHIC, _PROJECTED = 1025, 2048, 3072
_PIXEL_IS_POINT = 2
_LARGEST_CODE = 32767  # values above are the user's own definitions
_LONGITUDE_LATITUDE = 4326  # WGS 84, which GeoJSON names CRS84


class Georeference(NamedTuple):
    """x = a·column + b·row + c and y = d·column + e·row + f, in units of the coordinate reference system.

    column, row: in pixels from the corner of the picture. epsg: number of the system, or None if the file names none.
    """

    a: float
    b: float
    c: float
    d: float
    e: float
    f: float
    epsg: int | None

    def place(self, column: float, row: float) -> tuple[float, float]:
        """The coordinates of a point of the picture."""
        return self.a * column + self.b * row + self.c, self.d * column + self.e * row + self.f

    @property
    def mirrored(self) -> bool:
        """Whether a ring changes its direction, as in north-up pictures, whose rows run southwards."""
        return self.a * self.e - self.b * self.d < 0

    @property
    def system(self) -> str | None:
        """The name of the coordinate reference system, for GeoJSON."""
        if self.epsg is None:
            return None
        return (
            "urn:ogc:def:crs:OGC:1.3:CRS84"
            if self.epsg == _LONGITUDE_LATITUDE
            else f"urn:ogc:def:crs:EPSG::{self.epsg}"
        )


def read_georeference(path: Path, page: int = 1) -> Georeference | None:
    """The georeference of a page, counted from 1, or None for a file without one."""
    if not is_tiff(path):
        return _from_raster(path) if is_jpeg_2000(path) else None
    try:
        with warnings.catch_warnings(), without_limit(), Image.open(path, formats=("TIFF",)) as image:
            warnings.simplefilter("ignore")  # damaged tags; reading the picture tells of them
            image.seek(page - 1)
            tags: Any = image.tag_v2  # type: ignore[attr-defined]  # a TIFF
            return _from_tags(tags)
    except Exception:  # a TIFF that Pillow does not know, or damaged tags
        return None


def _from_tags(tags: Any) -> Georeference | None:
    matrix = tags.get(_TRANSFORMATION)
    scale, tie = tags.get(_SCALE), tags.get(_TIEPOINT)
    if matrix is not None and len(matrix) == 16:
        a, b, c, d, e, f = (float(matrix[index]) for index in (0, 1, 3, 4, 5, 7))
    elif scale is not None and tie is not None and len(scale) >= 2 and len(tie) == 6:
        a, b, d, e = float(scale[0]), 0.0, 0.0, -float(scale[1])
        c, f = float(tie[3]) - a * float(tie[0]), float(tie[4]) - e * float(tie[1])
    else:
        return None
    keys = _short_keys(tags.get(_KEYS, ()))
    if keys.get(_RASTER_TYPE) == _PIXEL_IS_POINT:  # the coordinates are those of the centre of a pixel
        c, f = c - (a + b) / 2, f - (d + e) / 2
    code = keys.get(_PROJECTED) or keys.get(_GEOGRAPHIC)
    return Georeference(a, b, c, d, e, f, code if code and code < _LARGEST_CODE else None)


def _from_raster(path: Path) -> Georeference | None:
    """What rasterio reads from a JPEG 2000 file."""
    file = open_raster(path)
    if file is None:
        return None
    with file:
        if file.crs is None and file.transform.is_identity:
            return None
        a, b, c, d, e, f = file.transform[:6]
        return Georeference(a, b, c, d, e, f, None if file.crs is None else file.crs.to_epsg())


def _short_keys(directory: Any) -> dict[int, int]:
    """The keys whose value stands in the directory itself."""
    rows = [tuple(directory[start : start + 4]) for start in range(4, len(directory) - 3, 4)]
    return {int(key): int(value) for key, location, count, value in rows if location == 0 and count == 1}

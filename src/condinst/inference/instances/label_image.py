"""The label image of a result: the number of the instance at each pixel, as a whole or tile by tile."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from condinst.ops.bitmaps.rle import Region, decode_region

if TYPE_CHECKING:
    from condinst.inference.result import Result

LARGEST_16 = 65535
TILE = 512  # side of a tile of a large file, in pixels

Labels = NDArray[np.uint16 | np.uint32]


def label_image(result: Result[Any]) -> Labels:
    """The number of the instance at each pixel; see `Result.label_image`."""
    image = np.zeros(result.orig_shape, dtype=_kind(result))
    for row in _worst_first(result):
        _draw(image, 0, row, decode_region(result.masks.rle[row]))
    return image


def label_bands(result: Result[Any], rows: int) -> Iterator[Labels]:
    """The label image in bands of `rows` rows, from top to bottom. The last one may have fewer."""
    height, width = result.orig_shape
    order = np.array(_worst_first(result), dtype=np.int64)
    tops, bottoms = np.zeros_like(order), np.zeros_like(order)
    for at, row in enumerate(order.tolist()):
        bitmap, _, y = decode_region(result.masks.rle[row])
        tops[at], bottoms[at] = y, y + bitmap.shape[0]
    for top in range(0, height, rows):
        band = np.zeros((min(rows, height - top), width), dtype=_kind(result))
        for row in order[(tops < top + rows) & (bottoms > top)].tolist():
            _draw(band, top, row, decode_region(result.masks.rle[row]))
        yield band


def tiled_tiff(result: Result[Any]) -> bytes:
    """The label image as a TIFF in tiles, without a bitmap of the whole picture. Needs tifffile."""
    from tifffile import TiffWriter

    encoded = io.BytesIO()
    with TiffWriter(encoded) as writer:
        writer.write(
            _tiles(result),
            shape=result.orig_shape,
            dtype=_kind(result),
            tile=(TILE, TILE),
            compression="zlib",
            photometric="minisblack",
            metadata=None,
        )
    return encoded.getvalue()


def _tiles(result: Result[Any]) -> Iterator[Labels]:
    for band in label_bands(result, TILE):
        for left in range(0, band.shape[1], TILE):
            yield np.ascontiguousarray(band[:, left : left + TILE])


def _kind(result: Result[Any]) -> type[np.uint16] | type[np.uint32]:
    return np.uint16 if len(result) <= LARGEST_16 else np.uint32


def _worst_first(result: Result[Any]) -> list[int]:
    """The instances in the order of drawing: the best one is last, on top of the others."""
    order: list[int] = np.argsort(-np.asarray(result.boxes.conf), kind="stable")[::-1].tolist()
    return order


def _draw(band: Labels, top: int, row: int, region: Region) -> None:
    """Write the number of an instance into the rows of `band`, which begins at row `top` of the picture."""
    bitmap, x, y = region
    first, last = max(y, top), min(y + bitmap.shape[0], top + band.shape[0])
    band[first - top : last - top, x : x + bitmap.shape[1]][bitmap[first - y : last - y]] = row + 1

"""COCO run-length encoding (RLE): bitmaps to and from {"size": [h, w], "counts": str}. hotcoco does the encoding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypedDict

import numpy as np
from hotcoco import mask as codec
from numpy.typing import NDArray

SMALL = 500_000  # pixels of an image up to which a mask is decoded as a whole


class Rle(TypedDict):
    """A mask as COCO files store it. `counts` is the compressed string, so the dict can be written as JSON."""

    size: list[int]
    counts: str


class Region(NamedTuple):
    """A mask inside a rectangle of the image.

    bitmap: (h, w) bool. x, y: column and row of its top-left pixel in the image.
    """

    bitmap: NDArray[np.bool_]
    x: int
    y: int


def crop(region: Region, left: int, top: int, right: int, bottom: int) -> Region:
    """The part of a region in the columns from `left` to `right` and the rows from `top` to `bottom` of the image.

    The ends are not included.
    """
    bitmap, x, y = region
    kept = bitmap[max(top - y, 0) : max(bottom - y, 0), max(left - x, 0) : max(right - x, 0)]
    return Region(kept, max(x, left), max(y, top))


def encode(region: Region, height: int, width: int) -> Rle:
    """Encode the mask of a `height`×`width` image that is `region` inside the rectangle and empty outside.

    The function does not create a bitmap of the whole image.
    """
    bitmap, x, y = region
    # an empty pixel after each column makes every run end within its column
    columns, rows = bitmap.shape[1], bitmap.shape[0] + 1
    framed = np.zeros(columns * rows + 1, dtype=np.bool_)
    framed[1:].reshape(columns, rows)[:, :-1] = bitmap.T
    column, row = np.divmod(np.flatnonzero(framed[1:] != framed[:-1]), rows)
    edges = (column + x) * height + row + y  # start, end, start, end … in column-major pixel order
    starts, ends = edges[0::2], edges[1::2]
    joined = starts[1:] == ends[:-1]  # a run that reaches the bottom continues at the top of the next column
    inner = np.repeat(joined, 2)  # remove the end and the start at this place
    kept = edges[~np.concatenate(([False], inner, [False]))] if len(edges) else edges
    # the last run is left out if it is empty
    end = [] if len(kept) and kept[-1] == height * width else [height * width]
    # lengths of the runs: empty, filled, empty, filled …
    counts = np.diff(np.concatenate(([0], kept, end)).astype(np.int64)).tolist()
    packed = codec.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return Rle(size=[height, width], counts=packed["counts"].decode("ascii"))


def draw_polygons(parts: Sequence[NDArray[np.float64]], height: int, width: int) -> Rle:
    """The union of polygons, rasterised by COCO's rule. parts: each (P, 2), the vertices (x, y) in pixels."""
    drawn = codec.frPyObjects([points.ravel().tolist() for points in parts], height, width)
    return Rle(size=[height, width], counts=codec.merge(drawn)["counts"].decode("ascii"))


def decode(rle: Rle) -> NDArray[np.bool_]:
    """The bitmap (h, w) of the whole image."""
    return codec.decode(dict(rle)).astype(np.bool_)


def decode_region(rle: Rle) -> Region:
    """The bitmap inside its tight bounding rectangle, which is 0×0 pixels for an empty mask.

    The function does not create a bitmap of a large image.
    """
    if rle["size"][0] * rle["size"][1] > SMALL:
        return _region_of_runs(read_counts(rle["counts"]), rle["size"][0])
    x, y, width, height = (int(number) for number in codec.toBbox(dict(rle)))
    return Region(codec.decode(dict(rle))[y : y + height, x : x + width].astype(np.bool_), x, y)


def read_counts(counts: str) -> NDArray[np.int64]:
    """The lengths of the runs in column-major order: empty, filled, empty, filled … counts: the compressed string.

    COCO's format: each number is written in digits of 5 bits, the lowest first, and from the fourth number on as the
    difference from the number two places before.
    """
    digits = np.frombuffer(counts.encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    if not len(digits):
        return np.zeros(0, dtype=np.int64)
    last = (digits & 32) == 0
    starts = np.concatenate(([0], np.flatnonzero(last)[:-1] + 1))
    place = np.arange(len(digits)) - np.repeat(starts, np.diff(np.concatenate((starts, [len(digits)]))))
    numbers = np.add.reduceat((digits & 31) << (5 * place), starts)
    negative = (digits[last] & 16) != 0
    numbers -= negative.astype(np.int64) << (5 * (place[last] + 1))
    # from index 3 on, each number is a difference; the sums run over every second number
    for first in (1, 2):
        numbers[first::2] = numbers[first::2].cumsum()
    return numbers


def _region_of_runs(counts: NDArray[np.int64], height: int) -> Region:
    """The region of run lengths in an image of this height."""
    ends = counts.cumsum()
    starts, stops = ends[0:-1:2], ends[1::2]
    filled = stops > starts
    starts, stops = starts[: len(stops)][filled], stops[filled]
    if not len(starts):
        return Region(np.zeros((0, 0), dtype=np.bool_), 0, 0)
    first, last = starts // height, (stops - 1) // height
    # a run over several columns becomes a piece in each of them
    pieces = last - first + 1
    column = np.repeat(first, pieces) + np.arange(pieces.sum()) - np.repeat(pieces.cumsum() - pieces, pieces)
    top = np.maximum(np.repeat(starts, pieces) - column * height, 0)
    bottom = np.minimum(np.repeat(stops, pieces) - column * height, height)
    x, y = int(column[0]), int(top.min())
    shape = int(bottom.max()) - y, int(column[-1]) - x + 1
    # +1 where a piece begins and −1 after it; the running sum down each column is the bitmap
    steps = np.zeros((shape[0] + 1, shape[1]), dtype=np.int8)
    np.add.at(steps, (top - y, column - x), 1)
    np.add.at(steps, (bottom - y, column - x), -1)
    return Region(steps[:-1].cumsum(axis=0, dtype=np.int8).astype(np.bool_), x, y)


def tighten(region: Region) -> Region | None:
    """The region without the empty rows and columns around the mask, or None for an empty mask."""
    columns, rows = np.flatnonzero(region.bitmap.any(0)), np.flatnonzero(region.bitmap.any(1))
    if not len(columns):
        return None
    x, y = int(columns[0]), int(rows[0])
    return Region(region.bitmap[y : rows[-1] + 1, x : columns[-1] + 1], region.x + x, region.y + y)


def areas(rles: Sequence[Rle]) -> NDArray[np.int64]:
    """The number of pixels of each mask: (K,) int64."""
    return np.asarray(codec.area([dict(rle) for rle in rles]), dtype=np.int64).reshape(-1)

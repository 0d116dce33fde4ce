"""COCO run-length encoding: bitmaps ↔ {"size": [h, w], "counts": str}, column by column. The codec is hotcoco's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypedDict

import numpy as np
from hotcoco import mask as codec
from numpy.typing import NDArray


class Rle(TypedDict):
    """A mask as COCO files hold it; `counts` is the compressed string, so that the dict is JSON as it stands."""

    size: list[int]
    counts: str


class Region(NamedTuple):
    """A mask inside its own rectangle. bitmap: (h, w) bool. x, y: pixels, where its top-left pixel lies."""

    bitmap: NDArray[np.bool_]
    x: int
    y: int


def encode(region: Region, height: int, width: int) -> Rle:
    """The mask of a `height`×`width` image which is `region` there and empty elsewhere; no such bitmap is made."""
    bitmap, x, y = region
    # column by column, each with an empty pixel after it: every run of a column then ends inside it
    columns, rows = bitmap.shape[1], bitmap.shape[0] + 1
    framed = np.zeros(columns * rows + 1, dtype=np.bool_)
    framed[1:].reshape(columns, rows)[:, :-1] = bitmap.T
    column, row = np.divmod(np.flatnonzero(framed[1:] != framed[:-1]), rows)
    edges = (column + x) * height + row + y  # start, end, start, end … in column-major pixel order
    starts, ends = edges[0::2], edges[1::2]
    joined = starts[1:] == ends[:-1]  # a run to the bottom goes on at the top of the next column
    inner = np.repeat(joined, 2)  # both the end and the start at such a place
    kept = edges[~np.concatenate(([False], inner, [False]))] if len(edges) else edges
    # an empty run at the end is written only if there is one
    end = [] if len(kept) and kept[-1] == height * width else [height * width]
    counts = np.diff(
        np.concatenate(([0], kept, end)).astype(np.int64)
    ).tolist()  # lengths of runs: empty, filled, empty, filled …
    packed = codec.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return Rle(size=[height, width], counts=packed["counts"].decode("ascii"))


def draw_polygons(parts: Sequence[NDArray[np.float64]], height: int, width: int) -> Rle:
    """The union of polygons, each (P, 2) vertices (x, y) in pixels, drawn by COCO's rule."""
    drawn = codec.frPyObjects([points.ravel().tolist() for points in parts], height, width)
    return Rle(size=[height, width], counts=codec.merge(drawn)["counts"].decode("ascii"))


def decode(rle: Rle) -> NDArray[np.bool_]:
    """The whole bitmap (h, w)."""
    return codec.decode(dict(rle)).astype(np.bool_)


def decode_region(rle: Rle) -> Region:
    """The bitmap inside its tight rectangle; (0, 0) wide and high if the mask is empty."""
    x, y, width, height = (int(number) for number in codec.toBbox(dict(rle)))
    return Region(codec.decode(dict(rle))[y : y + height, x : x + width].astype(np.bool_), x, y)


def tighten(region: Region) -> Region | None:
    """The region without empty rows and columns around it; None if nothing is left."""
    columns, rows = np.flatnonzero(region.bitmap.any(0)), np.flatnonzero(region.bitmap.any(1))
    if not len(columns):
        return None
    x, y = int(columns[0]), int(rows[0])
    return Region(region.bitmap[y : rows[-1] + 1, x : columns[-1] + 1], region.x + x, region.y + y)


def areas(rles: Sequence[Rle]) -> NDArray[np.int64]:
    """Pixels in each mask: (K,)."""
    return np.asarray(codec.area([dict(rle) for rle in rles]), dtype=np.int64).reshape(-1)

"""A smaller copy of a result, for overlays of large pictures."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from condinst.errors import UsageError
from condinst.inference.instances.boxes import Boxes
from condinst.inference.instances.masks import Masks
from condinst.inference.instances.pixels import shrunk
from condinst.ops.bitmaps.rle import Region, Rle, decode_region, encode

if TYPE_CHECKING:
    from condinst.inference.result import Result


def preview(result: Result[Any], longer: int) -> Result[Any]:
    """The result at a whole fraction of its size; see `Result.preview`."""
    if longer < 1:
        raise UsageError(f"preview: expected a longer side of at least 1 pixel, got {longer}")
    height, width = result.orig_shape
    step = -(-max(height, width) // longer)
    if step <= 1:
        return result
    size = -(-height // step), -(-width // step)
    masks = Masks(tuple(_shrunk(rle, step, size) for rle in result.masks.rle), size)
    boxes = result.boxes
    small = Boxes(boxes.xyxy / step, boxes.conf, boxes.cls, size, boxes.id)
    return replace(result, boxes=small, masks=masks, orig_shape=size, image=shrunk(result, step))


def _shrunk(rle: Rle, step: int, size: tuple[int, int]) -> Rle:
    """Every `step`-th pixel of a mask, or one pixel of a mask that would vanish."""
    bitmap, x, y = decode_region(rle)
    if not bitmap.size:
        return encode(Region(bitmap[:0, :0], 0, 0), *size)
    top, left = -y % step, -x % step
    small = bitmap[top::step, left::step]
    if small.any():
        return encode(Region(small, (x + left) // step, (y + top) // step), *size)
    row, column = (int(places[0]) for places in np.nonzero(bitmap))
    dot = np.ones((1, 1), dtype=np.bool_)
    return encode(Region(dot, (x + column) // step, (y + row) // step), *size)

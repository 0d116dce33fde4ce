"""The box and the mask of one COCO record. Raises RecordError where malformed, EmptyError where without area."""

from __future__ import annotations

from typing import Any

import hotcoco.mask as coco_mask
import numpy as np

from condinst.data.findings import RecordError
from condinst.data.formats.records import CORRECT, Record, kind, numbers
from condinst.data.sample import Box, Polygons, RunLengths
from condinst.data.shapes import Shape, box_of


class EmptyError(Exception):
    """The box or the mask has no area."""


def read_box(record: Record, shape: Shape | None) -> Box:
    """xywh → xyxy; that of the shape where none is stated."""
    values = record.get("bbox")
    if shape is not None and values in (None, []):
        return box_of(shape)
    if not isinstance(values, list) or len(values) != 4:
        raise RecordError("bad-box", f"'bbox' must be [x, y, width, height], got {values!a:.60}", CORRECT)
    x, y, width, height = numbers(values, "bbox", "bad-box")
    return x, y, x + width, y + height


def read_shape(record: Record, height: int, width: int) -> Polygons | RunLengths | None:
    """The mask on a picture of that size; None where there is a box alone."""
    segmentation = record.get("segmentation")
    if isinstance(segmentation, dict):
        return _read_rle(segmentation, height, width)
    return _read_polygons(segmentation)


def _read_polygons(parts: Any) -> Polygons | None:
    """None where no part is given: a box alone."""
    if parts in (None, [], [[]]):
        return None
    if not isinstance(parts, list):
        raise RecordError("bad-mask", f"'segmentation' must be polygons or an RLE, got {kind(parts)}", CORRECT)
    if type(parts[0]) in (int, float):  # one polygon without the list around it, as some programs write it
        parts = [parts]
    arrays = []
    for index, part in enumerate(parts):
        key = f"segmentation[{index}]"
        if not isinstance(part, list) or len(part) < 6 or len(part) % 2:
            got = f"{len(part)} numbers" if isinstance(part, list) else kind(part)
            raise RecordError("bad-mask", f"{key} must be [x1, y1, x2, y2, x3, y3, …], got {got}", CORRECT)
        arrays.append(np.array(numbers(part, key, "bad-mask"), dtype=np.float64).reshape(-1, 2))
    return Polygons(tuple(arrays))


def _read_rle(rle: Record, height: int, width: int) -> RunLengths:
    """Compressed (text) or uncompressed (list) run lengths → those of the tight box."""
    expected = [height, width]
    if rle.get("size") != expected:
        message = f"the RLE's size {rle.get('size')!a:.40} contradicts its image's [height, width] {expected}"
        raise RecordError("mask-size", message, "correct one of them")
    whole = {"size": expected, "counts": rle.get("counts")}
    try:
        x, y, columns, rows = (int(side) for side in coco_mask.toBbox(whole))
        mask = coco_mask.decode(whole)[y : y + rows, x : x + columns]
    except (ValueError, TypeError, OverflowError) as error:
        raise RecordError("bad-mask", f"not a COCO RLE ({error})", "write the mask again") from None
    if _covers_less(whole, height, width):
        raise RecordError("bad-mask", "the RLE's runs end before the image does", "write the mask again")
    if not mask.size:
        raise EmptyError("the mask has no area")
    return RunLengths.of(mask, x, y)


def _covers_less(rle: Record, height: int, width: int) -> bool:
    """Whether the runs sum to less than the image, as in a cut file: hotcoco refuses only sums over the size given."""
    try:
        coco_mask.area({"size": [1, height * width - 1], "counts": rle["counts"]})
    except ValueError:
        return False
    return True

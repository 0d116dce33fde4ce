"""Reads the box, the mask and the area of one COCO record. If they contradict each other, the mask decides.

Raises RecordError for a malformed mask, or for a malformed box without a mask. Raises EmptyError for an object without
area.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import hotcoco.mask as coco_mask

from condinst.data.findings import RecordError
from condinst.data.formats.records import CORRECT, Record, coordinates, integer, kind, numbers
from condinst.data.sample import Box, Polygons, RunLengths
from condinst.data.shapes import Shape, box_iou, box_of, clip_box, covers_pixels, differs, refuse_outside, solid_box

OTHER_BOX = 0.5  # IoU of a box and the box of its mask; below this value the two boxes differ
CORNERS = 0.9  # IoU; above this value the box was written as two corners
AREA_MARGIN = 1.05  # share of the picture's area; the stated area of a polygon that sticks out may be a little larger


class EmptyError(Exception):
    """The box or the mask has no area."""


class Derived(NamedTuple):
    """A value from the mask. wrong: the problem of the stated value, if the mask's own value was used."""

    box: Box
    wrong: str | None = None


def read_box(record: Record, shape: Shape | None, height: int, width: int) -> Derived:
    """Return the record's xywh as xyxy, in a picture of that size.

    Without a box, or with a wrong box, the box of the mask is used. A stated box is wrong if it is no box, or if it and
    the mask's box have less than half in common.
    """
    if shape is None:
        return Derived(_box_alone(record, height, width))
    own = solid_box(shape, height, width)
    if record.get("bbox") in (None, []):
        return Derived(own)
    try:
        box = _stated_box(record)
    except RecordError as fault:
        return Derived(own, fault.message)
    if box[2] <= box[0] or box[3] <= box[1]:
        return Derived(own, f"the 'bbox' {record['bbox']!a:.60} has no area, but the mask has one")
    if not differs(box, own):
        return Derived(box)
    iou = box_iou(clip_box(box, height, width), clip_box(own, height, width))
    if iou < OTHER_BOX:
        return Derived(own, f"the 'bbox' {record['bbox']!a:.60} does not fit the mask (IoU {iou:.2f}){_hint(box, own)}")
    return Derived(box)


def _box_alone(record: Record, height: int, width: int) -> Box:
    """Return the box of an object without a mask."""
    box = _stated_box(record)
    if box[2] < box[0] or box[3] < box[1]:
        message = f"'bbox' must be [x, y, width, height], got {record['bbox']!a:.60}, of negative size"
        raise RecordError("bad-box", message, CORRECT)
    if box[2] == box[0] or box[3] == box[1]:
        raise EmptyError("the box has no area")
    refuse_outside(box, height, width)
    return box


def _stated_box(record: Record) -> Box:
    values = record.get("bbox")
    if not isinstance(values, list) or len(values) != 4:
        raise RecordError("bad-box", f"'bbox' must be [x, y, width, height], got {values!a:.60}", CORRECT)
    x, y, width, height = numbers(values, "bbox", "bad-box")
    return x, y, x + width, y + height


def _hint(box: Box, own: Box) -> str:
    """Return a frequent mistake that explains the box."""
    corners = (box[0], box[1], box[2] - box[0], box[3] - box[1])
    explained = box_iou(corners, own) > CORNERS
    return ": its last two numbers look like a corner; COCO needs width and height" if explained else ""


def read_area(record: Record, height: int, width: int) -> tuple[float | None, str | None]:
    """Return (area in pixels, problem of the stated area). Without a stated or valid area, the area is None."""
    value = record.get("area")
    if value is None:
        return None, None
    most = AREA_MARGIN * height * width
    if type(value) in (int, float) and 0 < value <= most:
        return float(value), None
    return None, f"'area' must be a number of pixels above 0 and within the picture's, got {value!a:.40}"


class Mask(NamedTuple):
    """The mask of a record.

    shape: None if there is only a box. left_out: number of its parts with one or two points.
    """

    shape: Shape | None
    left_out: int = 0


def read_shape(record: Record, height: int, width: int) -> Mask:
    """Return the mask on a picture of that size."""
    segmentation = record.get("segmentation")
    if isinstance(segmentation, dict):
        return Mask(_read_rle(segmentation, height, width))
    mask = _read_polygons(segmentation)
    if mask.shape is not None and not covers_pixels(mask.shape, height, width):
        refuse_outside(box_of(mask.shape), height, width, covers=False)
        raise EmptyError("the mask covers no pixel")
    return mask


def _read_polygons(parts: Any) -> Mask:
    """Return the mask of polygons. A part of one or two points beside a whole polygon is left out."""
    if parts is None:
        return Mask(None)
    if not isinstance(parts, list):
        raise RecordError("bad-mask", f"'segmentation' must be polygons or an RLE, got {kind(parts)}", CORRECT)
    parts = [part for part in parts if part != []]  # drop polygons without a point
    if not parts:
        return Mask(None)
    if type(parts[0]) in (int, float):  # some programs write one polygon without the list around it
        parts = [parts]
    whole = [part for part in parts if not _is_short(part)]
    left_out, parts = (len(parts) - len(whole), whole) if whole else (0, parts)
    arrays = []
    for index, part in enumerate(parts):
        key = f"segmentation[{index}]"
        if not isinstance(part, list) or len(part) < 6 or len(part) % 2:
            got = f"{len(part)} numbers" if isinstance(part, list) else kind(part)
            raise RecordError("bad-mask", f"{key} must be [x1, y1, x2, y2, x3, y3, …], got {got}", CORRECT)
        arrays.append(coordinates(part, key, "bad-mask").reshape(-1, 2))
    return Mask(Polygons(tuple(arrays)), left_out)


def _is_short(part: Any) -> bool:
    """Return whether a part of a mask has one or two points: a stray click, or what is left of a polygon."""
    return isinstance(part, list) and len(part) in (2, 4) and all(type(number) in (int, float) for number in part)


def _read_rle(rle: Record, height: int, width: int) -> RunLengths:
    """Convert compressed (text) or uncompressed (list) run lengths to those of the tight box."""
    expected = [height, width]
    if rle.get("size") not in (
        None,
        [],
        expected,
        [str(height), str(width)],
    ):  # without a size, the sum of the runs must match the picture
        message = f"the RLE's size {rle.get('size')!a:.40} contradicts its image's [height, width] {expected}"
        raise RecordError("mask-size", message, "correct one of them")
    whole = {"size": expected, "counts": _whole_runs(rle.get("counts"))}
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
    """Return whether the runs sum to less than the image, as in a cut file: hotcoco refuses only larger sums."""
    try:
        coco_mask.area({"size": [1, height * width - 1], "counts": rle["counts"]})
    except ValueError:
        return False
    return True


def _whole_runs(counts: Any) -> Any:
    """Return run lengths written as 5.0 or "5" as whole numbers, and other values unchanged."""
    if not isinstance(counts, list) or all(type(run) is int for run in counts):
        return counts
    try:
        return [integer({"counts": run}, "counts") for run in counts]
    except RecordError:
        return counts

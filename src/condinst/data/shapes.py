"""Makes shapes from drawn outlines, joins them into objects, and computes their boxes."""

from __future__ import annotations

from collections.abc import Sequence

import hotcoco.mask as coco_mask
import numpy as np
from numpy.typing import NDArray

from condinst.data.findings import RecordError
from condinst.data.sample import Box, Polygons, RunLengths
from condinst.ops.bitmaps.rle import Region, Rle, decode_region, tighten

SHORTEST_LIMIT, LONGEST_OUTLINE = 100_000, 5_000_000  # pixels that an outline crosses
Shape = Polygons | RunLengths

STICKS_OUT = 1.0  # pixels; annotation tools round by fractions of a pixel
BOX_DIFFERS = (2.0, 0.05)  # pixels, and the share of the box's longer side: a difference over both is not rounding


def box_of(shape: Shape) -> Box:
    """Return the tight box."""
    if isinstance(shape, RunLengths):
        height, width = shape.rle["size"]
        return shape.x, shape.y, shape.x + width, shape.y + height
    points = shape.parts[0] if len(shape.parts) == 1 else np.concatenate(shape.parts)
    # faster than points.min(0), because points.min checks its input first
    left, top = np.minimum.reduce(points, axis=0).tolist()
    right, bottom = np.maximum.reduce(points, axis=0).tolist()
    return left, top, right, bottom


def clip_box(box: Box, height: int, width: int) -> Box:
    """Return the part of the box inside a picture of (height, width) pixels."""
    x0, y0, x1, y1 = box
    return (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))


def box_iou(a: Box, b: Box) -> float:
    """Return the IoU of two boxes; 0 for empty or separate boxes."""
    across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if across <= 0 or down <= 0:
        return 0.0
    shared = across * down
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def differs(box: Box, other: Box) -> bool:
    """Return whether two boxes differ by more than rounding."""
    gap = max(abs(box[0] - other[0]), abs(box[1] - other[1]), abs(box[2] - other[2]), abs(box[3] - other[3]))
    pixels, share = BOX_DIFFERS
    return gap > pixels and gap > share * max(other[2] - other[0], other[3] - other[1])


def solid_box(shape: Shape, height: int, width: int) -> Box:
    """Return the tight box of a shape that covers pixels of a picture of that size.

    If the vertices lie on a line, the box is that of the covered pixels.
    """
    box = box_of(shape)
    if box[2] > box[0] and box[3] > box[1]:
        return box
    x, y, columns, rows = (float(side) for side in coco_mask.toBbox(dict(shape.whole(height, width))))
    return x, y, x + columns, y + rows


def covers_pixels(shape: Shape, height: int, width: int) -> bool:
    """Return whether COCO's rule draws a pixel of the shape in a picture of that size.

    Raises RecordError for an outline too long to draw (see `bound_outline`).
    """
    if isinstance(shape, RunLengths):
        return True
    bound_outline(shape.parts, height, width)
    drawn = coco_mask.frPyObjects([part.ravel().tolist() for part in shape.parts], height, width)
    return any(coco_mask.area(drawn))


def bound_outline(parts: Sequence[NDArray[np.float64]], height: int, width: int) -> None:
    """Raise RecordError for polygons, each (P, 2), with an outline longer than any real outline in the picture.

    COCO's rule makes five points per pixel. A polygon of 100,000 points that zigzags across a picture would take
    gigabytes.
    """
    # the longest outline surrounds every pixel of a chessboard: two sides per pixel of the picture
    most = min(max(4 * height * width, SHORTEST_LIMIT), LONGEST_OUTLINE)
    if sum(map(len, parts)) * max(height, width) <= most:  # no step is longer than the picture
        return
    length = 0.0
    for part in parts:
        inside = part.clip(0, (width, height))
        steps = np.abs(np.diff(inside, axis=0, append=inside[:1])).max(axis=1)
        length += float(steps.sum())
    if not length <= most:
        message = f"its outline crosses {length:,.0f} pixels of the picture, but condinst reads at most {most:,}"
        raise RecordError("bad-polygon", message, "draw it with fewer points, or save it as a mask")


def refuse_outside(box: Box, height: int, width: int, covers: bool = True) -> None:
    """Raise RecordError for a box outside the picture.

    Also raises if the box sticks out and its mask `covers` no pixel of the picture.
    """
    x0, y0, x1, y1 = box
    sticks_out = max(-x0, -y0, x1 - width, y1 - height) > STICKS_OUT
    if x0 >= width or y0 >= height or x1 <= 0 or y1 <= 0 or (sticks_out and not covers):
        message = f"its box ({x0:g}, {y0:g}, {x1:g}, {y1:g}) lies outside the picture of {width}×{height} pixels"
        raise RecordError(
            "outside", message, "check whether it belongs to another picture, or to another size of this picture"
        )


def run_lengths(mask: NDArray[np.bool_], x: int = 0, y: int = 0) -> RunLengths | None:
    """Encode pixels (h, w) with the top left pixel (x, y); None if no pixel is set."""
    tight = tighten(Region(mask, x, y))
    return None if tight is None else RunLengths.of(*tight)


def unite(shapes: Sequence[Shape], height: int, width: int) -> Shape:
    """Join all shapes into one.

    Polygons stay polygons. Other shapes become pixels of the picture of that size.
    """
    if len(shapes) == 1:
        return shapes[0]
    polygons = [shape for shape in shapes if isinstance(shape, Polygons)]
    if len(polygons) == len(shapes):
        return Polygons(tuple(part for shape in polygons for part in shape.parts))
    for shape in polygons:
        bound_outline(shape.parts, height, width)
    merged = coco_mask.merge([dict(shape.whole(height, width)) for shape in shapes])
    return RunLengths.of(*decode_region(Rle(size=[height, width], counts=merged["counts"])))


def join(members: Sequence[Shape | Box | None], height: int, width: int) -> tuple[Box, Shape | None] | None:
    """Return (box, shape) of one object on a picture of that size; None if nothing is drawn.

    Boxes stay boxes only if the object has no other shape, because a box does not say which pixels belong to the
    object.
    """
    drawn = [member for member in members if member is not None]
    boxes = [member for member in drawn if isinstance(member, tuple)]
    if not drawn:
        return None
    if len(boxes) == len(drawn):
        left, top, right, bottom = zip(*boxes, strict=True)
        return (min(left), min(top), max(right), max(bottom)), None
    shape = unite([filled(member) if isinstance(member, tuple) else member for member in drawn], height, width)
    return box_of(shape), shape


def filled(box: Box) -> Polygons:
    """Return the corners of the box, clockwise on the screen from the top left."""
    x0, y0, x1, y1 = box
    return polygon([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


class ShortPolygonError(RecordError):
    """A polygon has fewer than three points: a stray click."""


def polygon(points: Sequence[Sequence[float]] | NDArray[np.float64]) -> Polygons:
    """Make a polygon from vertices (x, y). Raises ShortPolygonError for fewer than three."""
    if len(points) < 3:
        raise ShortPolygonError("bad-polygon", f"a polygon needs 3 points, got {len(points)}", "redraw or remove it")
    return Polygons((np.array(points, dtype=np.float64),))


def ellipse(centre: tuple[float, float], radii: tuple[float, float], degrees: float = 0.0) -> Polygons:
    """Return the outline, accurate to a fiftieth of a pixel, clockwise on the screen."""
    steps = int(np.clip(np.pi / np.sqrt(0.04 / max(*radii, 1.0)), 16, 1000))
    angles = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    across, down = radii[0] * np.cos(angles), radii[1] * np.sin(angles)
    turn = np.deg2rad(degrees)
    x = centre[0] + across * np.cos(turn) - down * np.sin(turn)
    y = centre[1] + across * np.sin(turn) + down * np.cos(turn)
    return Polygons((np.stack((x, y), axis=1),))

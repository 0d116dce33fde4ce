"""Shapes as annotation tools draw them: made, joined into objects, and the boxes around them."""

from __future__ import annotations

from collections.abc import Sequence

import hotcoco.mask as coco_mask
import numpy as np
from numpy.typing import NDArray

from condinst.data.findings import RecordError
from condinst.data.sample import Box, Polygons, RunLengths
from condinst.ops.rle import Region, Rle, decode_region, tighten

Shape = Polygons | RunLengths


def box_of(shape: Shape) -> Box:
    """The tight box."""
    if isinstance(shape, RunLengths):
        height, width = shape.rle["size"]
        return shape.x, shape.y, shape.x + width, shape.y + height
    points = np.concatenate(shape.parts)
    (left, top), (right, bottom) = points.min(0), points.max(0)
    return float(left), float(top), float(right), float(bottom)


def run_lengths(mask: NDArray[np.bool_], x: int = 0, y: int = 0) -> RunLengths | None:
    """Of pixels (h, w) whose top left is (x, y); None if none is set."""
    tight = tighten(Region(mask, x, y))
    return None if tight is None else RunLengths.of(*tight)


def unite(shapes: Sequence[Shape], height: int, width: int) -> Shape:
    """One shape of all: polygons stay polygons, anything else becomes pixels of the picture of that size."""
    if len(shapes) == 1:
        return shapes[0]
    polygons = [shape for shape in shapes if isinstance(shape, Polygons)]
    if len(polygons) == len(shapes):
        return Polygons(tuple(part for shape in polygons for part in shape.parts))
    merged = coco_mask.merge([dict(shape.whole(height, width)) for shape in shapes])
    return RunLengths.of(*decode_region(Rle(size=[height, width], counts=merged["counts"])))


def join(members: Sequence[Shape | Box | None], height: int, width: int) -> tuple[Box, Shape | None] | None:
    """(box, shape) of the shapes of one object on a picture of that size; None where nothing is drawn.

    Its boxes stay boxes only if nothing else is drawn: a box says where an object is, not which pixels are its own.
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
    """All of a box, as its corners, clockwise on the screen from the top left."""
    x0, y0, x1, y1 = box
    return polygon([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def polygon(points: Sequence[Sequence[float]] | NDArray[np.float64]) -> Polygons:
    """Of its vertices (x, y). Raises RecordError for fewer than three."""
    if len(points) < 3:
        raise RecordError("bad-polygon", f"a polygon needs 3 points, got {len(points)}", "redraw or remove it")
    return Polygons((np.array(points, dtype=np.float64),))


def ellipse(centre: tuple[float, float], radii: tuple[float, float], degrees: float = 0.0) -> Polygons:
    """Its outline to a fiftieth of a pixel, turned clockwise on the screen."""
    steps = int(np.clip(np.pi / np.sqrt(0.04 / max(*radii, 1.0)), 16, 1000))
    angles = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    across, down = radii[0] * np.cos(angles), radii[1] * np.sin(angles)
    turn = np.deg2rad(degrees)
    x = centre[0] + across * np.cos(turn) - down * np.sin(turn)
    y = centre[1] + across * np.sin(turn) + down * np.cos(turn)
    return Polygons((np.stack((x, y), axis=1),))

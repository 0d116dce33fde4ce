"""Sample + matrix → the visible part of each instance. Each region is drawn once, at full resolution."""

from __future__ import annotations

import math
from typing import NamedTuple

import hotcoco.mask as coco_mask
import numpy as np
from numpy.typing import NDArray

from condinst.data.sample import Box, Instance, Matrix, Polygons, RunLengths, Sample
from condinst.data.shapes import clip_box
from condinst.ops.bitmaps.rle import Region, tighten


class Shown(NamedTuple):
    """The visible part of one instance. `region` is tight; without a mask, `region` is the filled box."""

    label: int
    box: Box
    region: Region
    centroid: tuple[float, float]
    has_mask: bool


def show(sample: Sample, matrix: Matrix, height: int, width: int) -> list[Shown]:
    """Draw the instances of `sample`, moved by `matrix` (2, 3), in an image of (height, width) pixels.

    Crowds and instances outside the image are left out. If the image cuts an instance, its box becomes the tight box of
    the visible mask, or the visible part of the box if there is no mask. Other boxes stay as annotated.
    """
    shown = (show_instance(instance, matrix, height, width) for instance in sample.instances if not instance.crowd)
    return [thing for thing in shown if thing is not None]


def show_instance(instance: Instance, matrix: Matrix, height: int, width: int) -> Shown | None:
    """Return the visible part of an instance that `matrix` moves.

    The image has (height, width) pixels. Returns None if nothing is visible.
    """
    box = _move_box(instance.box, matrix)
    if instance.shape is None:
        return show_box(instance.label, box, height, width)
    region = _draw(instance.shape, matrix, height, width)
    if region is None:
        return None
    return Shown(instance.label, shown_box(box, region, height, width), region, centroid_of(region), True)


def move_shown(thing: Shown, x: int, y: int) -> Shown:
    """Return the object moved right by `x` and down by `y` pixels."""
    x0, y0, x1, y1 = thing.box
    return thing._replace(
        box=(x0 + x, y0 + y, x1 + x, y1 + y),
        region=Region(thing.region.bitmap, thing.region.x + x, thing.region.y + y),
        centroid=(thing.centroid[0] + x, thing.centroid[1] + y),
    )


def show_box(label: int, box: Box, height: int, width: int) -> Shown | None:
    """Return the visible part of an instance without a mask; None if nothing is visible.

    As published, the mask is every pixel from the pixel of the first corner to the pixel of the last corner.
    """
    x0, y0, x1, y1 = clip_box(box, height, width)
    if x0 >= x1 or y0 >= y1:
        return None
    columns, rows = min(int(x1) + 1, width) - int(x0), min(int(y1) + 1, height) - int(y0)
    region = Region(np.ones((rows, columns), dtype=np.bool_), int(x0), int(y0))
    return Shown(label, (x0, y0, x1, y1), region, ((x0 + x1) / 2, (y0 + y1) / 2), False)


def _draw(shape: Polygons | RunLengths, matrix: Matrix, height: int, width: int) -> Region | None:
    """Return the tight region of the shape inside the image; None if nothing is visible."""
    if isinstance(shape, Polygons):
        return _draw_polygons(shape, matrix, height, width)
    return _draw_runs(shape, matrix, height, width)


def _draw_polygons(shape: Polygons, matrix: Matrix, height: int, width: int) -> Region | None:
    """Draw with COCO's own rule and unite the parts."""
    moved = [_move(points, matrix) for points in shape.parts]
    # COCO's rule rounds to fifths of a pixel, so another origin could change a rounded value. Only the right and bottom
    # of the canvas are trimmed, which cuts the drawing and changes nothing else.
    right = min(width, int(max(points[:, 0].max() for points in moved)) + 2)
    bottom = min(height, int(max(points[:, 1].max() for points in moved)) + 2)
    if right <= 0 or bottom <= 0:
        return None
    rles = coco_mask.frPyObjects([points.ravel().tolist() for points in moved], bottom, right)
    rle = rles[0] if len(rles) == 1 else coco_mask.merge(rles)
    x, y, box_width, box_height = (int(side) for side in coco_mask.toBbox(rle))
    if not box_width or not box_height:
        return None
    # a copy, to free the canvas
    return Region(coco_mask.decode(rle)[y : y + box_height, x : x + box_width].astype(np.bool_, order="C"), x, y)


def _draw_runs(shape: RunLengths, matrix: Matrix, height: int, width: int) -> Region | None:
    """Give each output pixel the source pixel under its centre."""
    rows, columns = shape.rle["size"]
    x0, y0, x1, y1 = _move_box((shape.x, shape.y, shape.x + columns, shape.y + rows), matrix)
    left, top = max(math.floor(x0), 0), max(math.floor(y0), 0)
    right, bottom = min(math.ceil(x1), width), min(math.ceil(y1), height)
    if left >= right or top >= bottom:
        return None
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    xs, ys = np.arange(left, right) + 0.5, np.arange(top, bottom)[:, None] + 0.5
    source_x = np.floor(inverse[0, 0] * xs + inverse[0, 1] * ys + inverse[0, 2]).astype(np.int64) - shape.x
    source_y = np.floor(inverse[1, 0] * xs + inverse[1, 1] * ys + inverse[1, 2]).astype(np.int64) - shape.y
    inside = (source_x >= 0) & (source_x < columns) & (source_y >= 0) & (source_y < rows)
    taken = shape.decode()[source_y.clip(0, rows - 1), source_x.clip(0, columns - 1)] & inside
    return tighten(Region(taken, left, top))


def shown_box(box: Box, region: Region, height: int, width: int) -> Box:
    """Return the annotated box inside the image; if the image cuts the object, the tight box of the visible region."""
    return fit_box(box, tight_box(region), height, width)


def fit_box(box: Box, tight: Box, height: int, width: int) -> Box:
    """Return the annotated box inside the image; if the image cuts the object, `tight`, the box of the visible mask."""
    x0, y0, x1, y1 = clip_box(box, height, width)
    # annotated boxes stick out by fractions of a pixel; more than one pixel means that the crop cut the instance
    cut = box[0] < -1 or box[1] < -1 or box[2] > width + 1 or box[3] > height + 1
    return tight if cut or x0 >= x1 or y0 >= y1 else (x0, y0, x1, y1)


def tight_box(region: Region) -> Box:
    """Return the box of a tight region."""
    rows, columns = region.bitmap.shape
    return (region.x, region.y, region.x + columns, region.y + rows)


def centroid_of(region: Region) -> tuple[float, float]:
    """Return the mean pixel index of the full-resolution mask, as published: Σ x·m / Σ m."""
    per_column, per_row = region.bitmap.sum(0, dtype=np.int64), region.bitmap.sum(1, dtype=np.int64)
    area = int(per_column.sum())
    x = float(per_column @ np.arange(len(per_column))) / area
    y = float(per_row @ np.arange(len(per_row))) / area
    return region.x + x, region.y + y


def sampled(region: Region, stride: int) -> tuple[int, int, NDArray[np.bool_]]:
    """Return the pixels of the region in the grid [stride/2::stride] of the image.

    Also returns the (x, y) of the first pixel in that grid, before the pixels.
    """
    first_row = math.ceil(max(region.y - stride // 2, 0) / stride)
    first_column = math.ceil(max(region.x - stride // 2, 0) / stride)
    top, left = first_row * stride + stride // 2 - region.y, first_column * stride + stride // 2 - region.x
    return first_column, first_row, region.bitmap[top::stride, left::stride]


def _move(points: NDArray[np.float64], matrix: Matrix) -> NDArray[np.float64]:
    """Map points: (P, 2) → (P, 2)."""
    moved: NDArray[np.float64] = points @ matrix[:, :2].T + matrix[:, 2]
    return moved


def _move_box(box: Box, matrix: Matrix) -> Box:
    """Return the box around the moved corners."""
    x0, y0, x1, y1 = box
    corners = _move(np.array([[x0, y0], [x1, y0], [x0, y1], [x1, y1]], dtype=np.float64), matrix)
    (left, top), (right, bottom) = corners.min(0), corners.max(0)
    return float(left), float(top), float(right), float(bottom)

"""Checks the boxes and masks of a picture: they may stick out, cover nothing, cross themselves or contradict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import hotcoco.mask as coco_mask
import numpy as np
import shapely
from numpy.typing import NDArray

from condinst.data.findings import Finding, Severity
from condinst.data.sample import Box, Instance, Polygons, Sample
from condinst.data.shapes import BOX_DIFFERS, STICKS_OUT, box_iou, box_of, clip_box, differs
from condinst.ops.bitmaps.rle import Rle, areas

AREA_DIFFERS = (16.0, 0.2)  # pixels, and the share of the mask's area


class Raster(NamedTuple):
    """An instance as COCO draws it.

    rle: in the whole picture. box: the tight box of the mask, or the annotated box if there is no mask. area: in
    pixels, likewise.
    """

    rle: Rle | None
    box: Box
    area: float


def draw(sample: Sample) -> list[Raster]:
    """Return every instance of `sample` as run lengths. Instances of one polygon are drawn together."""
    height, width = sample.height, sample.width
    single = [number for number, instance in enumerate(sample.instances) if len(_parts(instance)) == 1]
    if not single:
        return [draw_one(instance, height, width) for instance in sample.instances]
    rings = [_parts(sample.instances[number])[0].ravel().tolist() for number in single]
    rles = coco_mask.frPyObjects(rings, height, width)
    sizes = np.asarray(coco_mask.area(rles), dtype=np.float64).reshape(-1).tolist()
    boxes = np.asarray(coco_mask.toBbox(rles), dtype=np.float64).reshape(-1, 4).tolist()
    drawn = {
        number: Raster(
            Rle(size=[height, width], counts=rle["counts"].decode("ascii")), (x, y, x + columns, y + rows), size
        )
        for number, rle, size, (x, y, columns, rows) in zip(single, rles, sizes, boxes, strict=True)
    }
    return [drawn.get(number) or draw_one(it, height, width) for number, it in enumerate(sample.instances)]


def _parts(instance: Instance) -> tuple[NDArray[np.float64], ...]:
    return instance.shape.parts if isinstance(instance.shape, Polygons) else ()


def draw_one(instance: Instance, height: int, width: int) -> Raster:
    """Draw `instance` in a picture of `height`×`width` pixels."""
    if instance.shape is None:
        x0, y0, x1, y1 = clip_box(instance.box, height, width)
        return Raster(None, (x0, y0, x1, y1), max(x1 - x0, 0.0) * max(y1 - y0, 0.0))
    rle = instance.shape.whole(height, width)
    x, y, columns, rows = (float(side) for side in coco_mask.toBbox(dict(rle)))
    return Raster(rle, (x, y, x + columns, y + rows), float(areas([rle])[0]))


def check_shapes(sample: Sample, drawn: list[Raster]) -> Iterator[Finding]:
    """Return the findings about each instance by itself; `drawn` is the result of `draw`."""
    crossed = _crossed(sample)
    for number in _unusual(sample, drawn, crossed):
        instance, as_drawn = sample.instances[number], drawn[number]
        outside = _find_outside(sample, instance, as_drawn)
        if outside is not None:
            yield outside
        if not as_drawn.area:
            if outside is None or outside.severity != "error":
                yield finding_about(
                    sample, instance, "zero-area", "warning", "covers no pixel", "draw it again or remove it"
                )
            continue
        if number in crossed:
            yield from _find_crossings(sample, instance)
        yield from _find_inner_rings(sample, instance)
        mismatch = _compare_boxes(sample, instance, as_drawn)
        if mismatch is not None:
            yield mismatch


def _unusual(sample: Sample, drawn: list[Raster], crossed: set[int]) -> list[int]:
    """Return the places of the instances that may have a finding; the rest is as usual and needs no closer look."""
    if not drawn:
        return []
    boxes = np.array([instance.box for instance in sample.instances], dtype=np.float64)
    tight = np.array([it.box for it in drawn], dtype=np.float64)
    size = np.array([sample.width, sample.height], dtype=np.float64)
    shapes = np.array([_outline_box(instance) for instance in sample.instances], dtype=np.float64)
    found = np.array([not it.area for it in drawn])
    for each in (boxes, shapes):
        found |= np.maximum(-each[:, :2], each[:, 2:] - size).max(axis=1) > STICKS_OUT
    inside = np.concatenate((np.maximum(boxes[:, :2], 0), np.minimum(boxes[:, 2:], size)), axis=1)
    found |= np.abs(inside - tight).max(axis=1) > BOX_DIFFERS[0]
    several = (number for number, instance in enumerate(sample.instances) if len(_parts(instance)) > 1)
    return sorted({*np.flatnonzero(found).tolist(), *crossed, *several})


def _outline_box(instance: Instance) -> Box:
    return instance.box if instance.shape is None else box_of(instance.shape)


def finding_about(
    sample: Sample, instance: Instance, kind: str, severity: Severity, message: str, remedy: str
) -> Finding:
    """Return a finding about one instance.

    `message` follows the id and the corner of the instance, because some formats have no ids.
    """
    number, (x, y, *_) = instance.annotation_id, instance.box
    where = f"annotation {number} at ({x:.0f}, {y:.0f})"
    return Finding(kind, severity, sample.path, number, f"{where}: {message}", remedy)


def excess(sample: Sample, instance: Instance) -> float:
    """Return how many pixels the box or the polygons stick out of the picture; ≤ 0 if they do not."""
    boxes = [instance.box] if instance.shape is None else [instance.box, box_of(instance.shape)]
    return max(max(-x0, -y0, x1 - sample.width, y1 - sample.height) for x0, y0, x1, y1 in boxes)


def crossing(part: NDArray[np.float64]) -> tuple[str, str] | None:
    """Return (what, where) for the place at which a polygon (P, 2) meets itself; None if it does not."""
    if shapely.is_valid(polygon := shapely.Polygon(part)):
        return None
    what, _, where = shapely.is_valid_reason(polygon).partition("[")
    if "elf-intersection" not in what:
        return None
    x, y = (float(number) for number in where.rstrip("]").split())
    return what, f"{x:.0f}, {y:.0f}"


def area_differs(instance: Instance, drawn: Raster) -> bool:
    """Return whether the area in the file differs from the area of the mask."""
    if instance.area is None or drawn.rle is None or not drawn.area:
        return False
    gap = abs(instance.area - drawn.area)
    return gap > AREA_DIFFERS[0] and gap > AREA_DIFFERS[1] * drawn.area


def box_ious(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the IoU (P,) of two lists of boxes (P, 4), row by row."""
    shared = (np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])).clip(min=0).prod(1)
    both = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - shared
    ious: NDArray[np.float64] = np.divide(shared, both, out=np.zeros_like(both, dtype=np.float64), where=both > 0)
    return ious


def _find_outside(sample: Sample, instance: Instance, drawn: Raster) -> Finding | None:
    pixels = excess(sample, instance)
    if pixels <= STICKS_OUT:
        return None
    if not drawn.area:  # a box without area in the picture has no drawn box either
        message = f"lies outside the picture of {sample.width}×{sample.height} pixels, by up to {pixels:.0f}"
        remedy = "check whether it belongs to another picture, or to another size of this picture"
        return finding_about(sample, instance, "outside", "error", message, remedy)
    message = f"sticks out of the picture of {sample.width}×{sample.height} by {pixels:.1f} pixels"
    return finding_about(sample, instance, "outside", "warning", message, "cut it at the picture's edge")


def _crossed(sample: Sample) -> set[int]:
    """Return the places of the instances with a polygon that meets itself."""
    parts = [(number, part) for number, instance in enumerate(sample.instances) for part in _parts(instance)]
    if not parts:
        return set()
    points = np.concatenate([part for _, part in parts])
    rings = shapely.linearrings(points, indices=np.repeat(np.arange(len(parts)), [len(part) for _, part in parts]))
    broken = np.flatnonzero(~shapely.is_valid(shapely.polygons(rings)))
    return {parts[index][0] for index in broken.tolist()}


def _find_crossings(sample: Sample, instance: Instance) -> Iterator[Finding]:
    for index, part in enumerate(_parts(instance)):
        if (found := crossing(part)) is None:
            continue
        what, where = found
        if what.startswith("Ring"):
            message = f"polygon {index} touches itself at ({where})"
            yield finding_about(
                sample, instance, "self-touching", "info", message, "nothing to do, unless these are two objects"
            )
        else:
            message = f"polygon {index} crosses itself at ({where})"
            remedy = "draw it again; areas that its loops enclose twice may count as holes"
            yield finding_about(sample, instance, "self-intersecting", "warning", message, remedy)


def _find_inner_rings(sample: Sample, instance: Instance) -> Iterator[Finding]:
    """Report polygons that repeat another polygon of the same object, or lie inside it, where a hole may be meant."""
    parts = _parts(instance)
    if len(parts) < 2:
        return
    rings = inner_rings(parts)
    for later, earlier in rings.repeated:
        message = f"polygon {later} is the same as polygon {earlier} and adds no pixel"
        yield finding_about(sample, instance, "repeated-polygon", "info", message, "remove one of them")
    if rings.inside is None:
        return
    inner, outer = rings.inside
    message = f"polygon {inner} lies inside polygon {outer} and adds no pixel"
    if instance.area is not None and _says_hole(instance.area, parts[inner], parts[outer]):
        message += ", and the stated area fits a hole there"
    remedy = "if it is a hole, save the object as a mask; the union of polygons fills the hole"
    yield finding_about(sample, instance, "hole-as-ring", "warning", message, remedy)


class Rings(NamedTuple):
    """Pairs of places of polygons of one object.

    repeated: (polygon, earlier polygon) of the same outline, whatever their first vertex and direction. inside: a
    polygon and a larger polygon around it; None without such a pair.
    """

    repeated: tuple[tuple[int, int], ...]
    inside: tuple[int, int] | None


def inner_rings(parts: Sequence[NDArray[np.float64]]) -> Rings:
    """Return the polygons of one object, (P, 2) each, that lie inside others."""
    polygons = shapely.make_valid([shapely.Polygon(part) for part in parts])
    within, holder = shapely.STRtree(polygons).query(polygons, predicate="within")
    pairs = [(a, b) for a, b in zip(within.tolist(), holder.tolist(), strict=True) if a != b]
    both_ways = {(a, b) for a, b in pairs} & {(b, a) for a, b in pairs}
    earlier: dict[int, int] = {}
    for first, later in sorted(both_ways):
        if first < later:
            earlier.setdefault(later, first)
    return Rings(tuple(sorted(earlier.items())), next((pair for pair in pairs if pair not in both_ways), None))


def _says_hole(area: float, inner: NDArray[np.float64], outer: NDArray[np.float64]) -> bool:
    """Return whether the stated area is nearer to the area of the ring alone than to the area of all."""
    whole, hole = shapely.Polygon(outer).area, shapely.Polygon(inner).area
    return bool(abs(area - (whole - hole)) < abs(area - whole))


def _compare_boxes(sample: Sample, instance: Instance, drawn: Raster) -> Finding | None:
    box = clip_box(instance.box, sample.height, sample.width)
    if drawn.rle is None or not differs(box, drawn.box):
        return None
    iou = box_iou(box, drawn.box)
    message = f"the box {_shown(instance.box)} differs from the box of its mask, {_shown(drawn.box)} (IoU {iou:.2f})"
    remedy = "write the mask's own box"
    x0, y0, x1, y1 = instance.box
    if box_iou((x0, y0, x1 - x0, y1 - y0), drawn.box) > max(iou, 0.9):
        remedy += "; its last two numbers look like a corner; COCO needs width and height"
    return finding_about(sample, instance, "box-mismatch", "warning", message, remedy)


def _shown(box: Box) -> str:
    return "({:.0f}, {:.0f})–({:.0f}, {:.0f})".format(*box)

"""Finds objects annotated twice in one picture: the same class and nearly the same pixels."""

from __future__ import annotations

from collections.abc import Iterator

import hotcoco.mask as coco_mask
import numpy as np
import shapely
from numpy.typing import NDArray

from condinst.data.findings import Finding
from condinst.data.sample import Box, Sample
from condinst.data.shapes import box_iou
from condinst.doctor.checks.shapes import Raster, box_ious, finding_about

SAME = 0.95  # two objects of a class above this IoU are one
SAME_BOX = 0.5  # IoU of their boxes; masks below this value are not compared
AT_ONCE = 256  # instances looked up together


def check_duplicates(sample: Sample, drawn: list[Raster]) -> Iterator[Finding]:
    """Return a warning for each instance that repeats an earlier instance."""
    for later, earlier in find_duplicates(sample, drawn).items():
        first, second = sample.instances[earlier], sample.instances[later]
        message = f"the same object as annotation {first.annotation_id}, of the same class"
        yield finding_about(sample, second, "duplicate-instance", "warning", message, "remove one of them")
    several = len({instance.label for instance in sample.instances}) > 1
    for later, earlier in find_duplicates(sample, drawn, any_class=True).items() if several else ():
        first, second = sample.instances[earlier], sample.instances[later]
        if first.label != second.label:
            message = f"the same object as annotation {first.annotation_id}, of another class"
            yield finding_about(sample, second, "two-classes", "warning", message, "remove the one of the wrong class")


def find_duplicates(sample: Sample, drawn: list[Raster], any_class: bool = False) -> dict[int, int]:
    """Return index of a repetition → index of the first instance. Crowds are skipped.

    any_class: compare instances of different classes, too.
    """
    first: dict[tuple[int, Box, str | None], int] = {}
    found: dict[int, int] = {}
    for index, (instance, it) in enumerate(zip(sample.instances, drawn, strict=True)):
        if it.area and not instance.crowd:
            label = 0 if any_class else instance.label
            same = first.setdefault((label, it.box, it.rle["counts"] if it.rle else None), index)
            found |= {index: same} if same < index else {}
    rows = list(first.values())
    labels = np.array([0 if any_class else sample.instances[row].label for row in rows], dtype=np.int64)
    kept = np.ones(len(rows), dtype=np.bool_)
    for later, candidates in _candidates([drawn[row] for row in rows], labels, kept):
        for earlier in candidates[kept[candidates]]:
            if _iou(drawn[rows[later]], drawn[rows[earlier]]) > SAME:
                found[rows[later]] = rows[earlier]
                kept[later] = False
                break
    # a repetition of a repetition belongs to the first instance
    return {later: found.get(earlier, earlier) for later, earlier in found.items()}


def _candidates(
    drawn: list[Raster], labels: NDArray[np.int64], kept: NDArray[np.bool_]
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Return each row, in order, with the earlier rows of `kept` that may show the same object."""
    boxes = np.array([it.box for it in drawn], dtype=np.float64).reshape(-1, 4)
    areas = np.array([it.area for it in drawn], dtype=np.float64)
    shapes = shapely.box(*boxes.T)
    tree = shapely.STRtree(shapes)
    for first in range(0, len(boxes), AT_ONCE):
        later, earlier = tree.query(shapes[first : first + AT_ONCE])
        later = later + first
        near = (earlier < later) & kept[earlier] & (labels[earlier] == labels[later])
        later, earlier = later[near], earlier[near]
        alike = np.minimum(areas[earlier], areas[later]) > SAME * np.maximum(areas[earlier], areas[later])
        alike &= box_ious(boxes[later], boxes[earlier]) > SAME_BOX
        later, earlier = later[alike], earlier[alike]
        order = np.lexsort((earlier, later))
        later, earlier = later[order], earlier[order]
        rows, starts = np.unique(later, return_index=True)
        yield from zip(rows.tolist(), np.split(earlier, starts[1:]), strict=True) if len(rows) else ()


def _iou(a: Raster, b: Raster) -> float:
    """Return the IoU of the masks, or of the boxes if one instance has no mask."""
    if a.rle is None or b.rle is None:
        return box_iou(a.box, b.box)
    return float(coco_mask.iou([dict(a.rle)], [dict(b.rle)], [0])[0][0])

"""Finds what an input of the network shows of the objects of a picture, for all objects together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import hotcoco.mask as coco_mask
import numpy as np
from numpy.typing import NDArray

from condinst.data.sample import Box, Instance, Polygons, Sample
from condinst.data.shown import fit_box, sampled, show_instance
from condinst.ops.bitmaps.runs import sampled_any, strips, sums

AT_ONCE = 256  # objects drawn together


class Visible(NamedTuple):
    """An object at the size of the input. sampled: whether its mask has a pixel at the stride of predicted masks."""

    instance: Instance
    box: Box
    centroid: tuple[float, float]
    sampled: bool


def see(sample: Sample, height: int, width: int, stride: int) -> list[Visible]:
    """Return what an input of (height, width) pixels shows of `sample`, without crowds and objects without a pixel.

    The values are those of `show_instance`, which draws one object at a time.
    """
    scale = (width / sample.width, height / sample.height)
    instances = [it for it in sample.instances if not it.crowd]
    single = [
        place for place, it in enumerate(instances) if isinstance(it.shape, Polygons) and len(it.shape.parts) == 1
    ]
    found: dict[int, Visible | None] = {}
    for first in range(0, len(single), AT_ONCE):
        places = single[first : first + AT_ONCE]
        chosen = [instances[place] for place in places]
        found.update(zip(places, _see_polygons(chosen, scale, (height, width), stride), strict=True))
    matrix = np.array([[scale[0], 0, 0], [0, scale[1], 0]], dtype=np.float64)
    seen = (
        found[place] if place in found else _see_one(instance, matrix, (height, width), stride)
        for place, instance in enumerate(instances)
    )
    return [it for it in seen if it is not None]


def _see_one(instance: Instance, matrix: NDArray[np.float64], size: tuple[int, int], stride: int) -> Visible | None:
    shown = show_instance(instance, matrix, *size)
    if shown is None:
        return None
    return Visible(instance, shown.box, shown.centroid, bool(sampled(shown.region, stride)[2].any()))


def _see_polygons(
    instances: Sequence[Instance], scale: tuple[float, float], size: tuple[int, int], stride: int
) -> Iterator[Visible | None]:
    """Draw objects of one polygon each by COCO's rule."""
    parts = [it.shape.parts[0] for it in instances if isinstance(it.shape, Polygons)]
    flat = (np.concatenate(parts) * scale + 0.0).ravel().tolist()
    ends = np.cumsum([2 * len(part) for part in parts]).tolist()
    rings = [flat[first:last] for first, last in zip([0, *ends], ends, strict=False)]
    drawn = coco_mask.frPyObjects(rings, *size)
    tight = np.asarray(coco_mask.toBbox(drawn), dtype=np.int64).reshape(-1, 4).tolist()
    pixels = strips([rle["counts"] for rle in drawn], size[0])
    columns = (each.tolist() for each in (*sums(pixels, len(parts)), sampled_any(pixels, len(parts), stride)))
    for instance, (x, y, across, down), area, right, below, left in zip(instances, tight, *columns, strict=True):
        if not area:
            yield None
            continue
        box = fit_box(_scaled(instance.box, scale), (x, y, x + across, y + down), *size)
        centroid = x + float(right - x * area) / area, y + float(below - y * area) / area
        yield Visible(instance, box, centroid, left)


def _scaled(box: Box, scale: tuple[float, float]) -> Box:
    (x0, x1), (y0, y1) = sorted((box[0] * scale[0], box[2] * scale[0])), sorted((box[1] * scale[1], box[3] * scale[1]))
    return x0, y0, x1, y1

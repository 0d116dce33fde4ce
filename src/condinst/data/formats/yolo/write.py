"""AnnotatedData → YOLO segmentation. A row holds one ring: cuts without width join parts and holes into the ring."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml

from condinst.data.formats.new_folder import RENAMED, PictureNames, put
from condinst.data.sample import AnnotatedData, Box, Instance, Polygons, RunLengths
from condinst.ops.bitmaps.bridges import bridge
from condinst.ops.bitmaps.contours import Ring, trace
from condinst.ops.bitmaps.rle import decode_region, draw_polygons

CROWDS = "crowd regions are left out, because a row cannot mark them"
CUTS = "objects of several parts or with holes are joined into one ring by cuts without width"
TRACED = "objects are traced along the edges of their pixels, because parts overlap or reach outside the picture"
BOXES = "boxes without a mask are rows of 4 numbers; Ultralytics misreads them in a file that also holds polygons"
LOST = "objects lie outside their picture and are left out"


def write_yolo(parts: Mapping[str, AnnotatedData], folder: Path, link: bool, note_counts: Counter[str]) -> None:
    """Write data.yaml, images/<split>/ and labels/<split>/. A data set without splits becomes train."""
    classes = list(dict.fromkeys(name for data in parts.values() for name in data.classes))
    entries = {}
    for split, data in parts.items():
        place = "train" if split == "all" else split
        entries[place] = f"images/{place}"
        names = PictureNames()
        labels = folder / "labels" / place
        labels.mkdir(parents=True)
        for sample in data.samples:
            name = names.new(sample.path)
            put(sample.path, folder / "images" / place / name, link)
            numbers = [classes.index(data.classes[each.label]) for each in sample.instances]
            rows = [
                yolo_row(each, number, sample.width, sample.height, note_counts)
                for each, number in zip(sample.instances, numbers, strict=True)
            ]
            text = "".join(f"{row}\n" for row in rows if row)
            (labels / name).with_suffix(".txt").write_text(text, encoding="utf-8")
        note_counts[RENAMED] += names.renamed
    # without `path`, folders start beside the file, even after the folder was moved
    document = {**entries, "names": dict(enumerate(classes))}
    text = yaml.safe_dump(document, allow_unicode=True, sort_keys=False)
    (folder / "data.yaml").write_text(text, encoding="utf-8")


def yolo_row(instance: Instance, number: int, width: int, height: int, note_counts: Counter[str]) -> str | None:
    """Return the row of an object of class `number`, without line end.

    Returns None for an object that YOLO cannot hold, and counts the object in `note_counts`.
    """
    if instance.crowd:
        note_counts[CROWDS] += 1
        return None
    size = width, height
    if instance.shape is None:
        note_counts[BOXES] += 1
        numbers = _centred(instance.box, *size)
    else:
        ring = _ring(instance.shape, *size, note_counts)
        numbers = None if ring is None else (ring / size).ravel().tolist()
    if numbers is None:
        note_counts[LOST] += 1
        return None
    # twelve digits: the reader rounds to a millionth of a pixel, so values of other formats come back unchanged
    return " ".join([str(number), *(f"{each:.12g}" for each in numbers)])


def _centred(box: Box, width: int, height: int) -> list[float] | None:
    """Return centre, width and height of the visible part, in parts of the picture."""
    x0, y0, x1, y1 = np.clip(box, 0, (width, height) * 2).tolist()
    if x1 <= x0 or y1 <= y0:
        return None
    return [(x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height]


def _ring(shape: Polygons | RunLengths, width: int, height: int, note_counts: Counter[str]) -> Ring | None:
    """Return one ring that covers the same pixels; None if none of the pixels lies in the picture."""
    if isinstance(shape, Polygons):
        ring = bridge(shape.parts)
        inside = bool(((ring >= 0) & (ring <= (width, height))).all())
        whole = len(shape.parts) == 1 or draw_polygons([ring], height, width) == shape.whole(height, width)
        if inside and whole:
            note_counts[CUTS] += len(shape.parts) > 1
            return ring
        note_counts[TRACED] += 1
        region = decode_region(shape.whole(height, width))
        bitmap, x, y = region.bitmap, region.x, region.y
    else:
        bitmap, x, y = shape.decode(), shape.x, shape.y
    rings = [ring for polygon in trace(bitmap, x, y) for ring in (polygon.outer, *polygon.holes)]
    note_counts[CUTS] += len(rings) > 1
    return bridge(rings) if rings else None

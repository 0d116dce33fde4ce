"""AnnotatedData → labelme: a JSON file beside each picture. Parts of an object share a group_id; holes need a mask."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from condinst.data.formats.labelme.read import CROWD
from condinst.data.formats.new_folder import RENAMED, PictureNames, put
from condinst.data.sample import AnnotatedData, Instance, Polygons, RunLengths
from condinst.ops.bitmaps.contours import trace
from condinst.ops.drawing.sheet import to_png

VERSION = "5.5.0"  # labelme 5.3 was the first version with shapes that are masks

Points = list[list[float]]


def write_labelme(parts: Mapping[str, AnnotatedData], folder: Path, link: bool, note_counts: Counter[str]) -> None:
    """Write a folder for each of `parts`. A data set without splits is written to `folder` itself."""
    for split, data in parts.items():
        place = folder if split == "all" else folder / split
        names = PictureNames()
        for sample in data.samples:
            name = names.new(sample.path)
            put(sample.path, place / name, link)
            shapes = [
                shape
                for group, instance in enumerate(sample.instances, 1)
                for shape in labelme_shapes(instance, data.classes[instance.label], group)
            ]
            text = json.dumps(
                labelme_document(name, sample.height, sample.width, shapes),
                ensure_ascii=False,
                allow_nan=False,
                indent=1,
            )
            (place / name).with_suffix(".json").write_text(text, encoding="utf-8")
        note_counts[RENAMED] += names.renamed
        crowds = sum(instance.crowd for sample in data.samples for instance in sample.instances)
        note_counts[f"crowd regions get the flag '{CROWD}'; labelme keeps the flag and does not use it"] += crowds


def labelme_document(name: str, height: int, width: int, shapes: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the content of a labelme file. name: of the picture, relative to the file."""
    size = {"imageHeight": height, "imageWidth": width}
    return {"version": VERSION, "flags": {}, "shapes": shapes, "imagePath": name, "imageData": None, **size}


def labelme_shapes(instance: Instance, label: str, group: int) -> list[dict[str, Any]]:
    """Return one shape per part of an object. group: the number shared by all parts, if there are several."""
    drawn = _draw(instance)
    return [
        {
            "label": label,
            "points": points,
            "group_id": group if len(drawn) > 1 else None,
            "description": "",
            "shape_type": sort,
            "flags": {CROWD: True} if instance.crowd else {},
            "mask": mask,
        }
        for sort, points, mask in drawn
    ]


def _draw(instance: Instance) -> list[tuple[str, Points, str | None]]:
    """Return (type, points, mask) of each shape."""
    shape = instance.shape
    if shape is None:
        x0, y0, x1, y1 = instance.box
        return [("rectangle", [[x0, y0], [x1, y1]], None)]
    if isinstance(shape, Polygons):
        return [("polygon", part.tolist(), None) for part in shape.parts]
    traced = trace(shape.decode(), shape.x, shape.y)
    if any(part.holes for part in traced):
        return [_mask(shape)]
    return [("polygon", part.outer.tolist(), None) for part in traced]


def _mask(shape: RunLengths) -> tuple[str, Points, str | None]:
    rows, columns = shape.rle["size"]
    png = to_png(Image.fromarray(shape.decode() * np.uint8(255)))
    corners = [[float(shape.x), float(shape.y)], [float(shape.x + columns - 1), float(shape.y + rows - 1)]]
    return "mask", corners, base64.b64encode(png).decode("ascii")

"""Convert a result to labelme and YOLO annotation files, for correction in an annotation tool."""

from __future__ import annotations

import base64
import io
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from condinst.data.formats.labelme.write import labelme_document, labelme_shapes
from condinst.data.formats.yolo.write import yolo_row
from condinst.data.pictures.georeference import Georeference, read_georeference
from condinst.data.sample import Instance, RunLengths
from condinst.ops.bitmaps.rle import decode_region
from condinst.ops.drawing.palette import class_colours

if TYPE_CHECKING:
    from condinst.inference.result import Result

NAME = "image.png"  # name of a picture that did not come from a file


def labelme_annotation(result: Result[Any], image_path: str | Path | None) -> dict[str, Any]:
    """A labelme document; see `Result.to_labelme`."""
    shapes = [
        {**shape, "score": round(score, 4)}
        for group, (instance, score) in enumerate(_instances(result, "to_labelme"), 1)
        for shape in labelme_shapes(instance, result.name_of(instance.label), group)
    ]
    height, width = result.orig_shape
    name = image_path or (result.path.name if result.path else NAME)
    document = labelme_document(str(name), height, width, shapes)
    if image_path is None and result.path is None:
        encoded = io.BytesIO()
        Image.fromarray(result.orig_img).save(encoded, "PNG")
        document["imageData"] = base64.b64encode(encoded.getvalue()).decode("ascii")
    return document


def geojson(result: Result[Any], pixels: bool) -> dict[str, Any]:
    """A feature for each instance; see `Result.to_geojson`."""
    earth = None if pixels or result.path is None else read_georeference(result.path, result.page or 1)
    palette = class_colours(max(result.names, default=0) + 1)
    tracks = None if result.boxes.id is None else result.boxes.id.tolist()
    rows = zip(result.boxes.cls.tolist(), result.boxes.conf.tolist(), result.masks.polygons, strict=True)
    features, empty = [], 0
    for row, (label, score, polygons) in enumerate(rows):
        if not polygons:
            empty += 1
            continue
        parts = [[_ring(ring, earth) for ring in (polygon.outer, *polygon.holes)] for polygon in polygons]
        single = len(parts) == 1
        features.append(
            {
                "type": "Feature",
                "geometry": {
                    "type": "Polygon" if single else "MultiPolygon",
                    "coordinates": parts[0] if single else parts,
                },
                "properties": {
                    "objectType": "detection",
                    "classification": {"name": result.name_of(label), "color": list(palette[label])},
                    "score": round(score, 4),
                    **({} if tracks is None else {"track_id": tracks[row]}),
                },
            }
        )
    if empty:
        warnings.warn(f"to_geojson: left out {empty} of {len(result)} instances with an empty mask", stacklevel=3)
    system = None if earth is None else earth.system
    crs = {} if system is None else {"crs": {"type": "name", "properties": {"name": system}}}
    return {"type": "FeatureCollection", **crs, "features": features}


def _ring(ring: Any, earth: Georeference | None) -> list[list[float]]:
    """A closed ring, counter-clockwise outside and clockwise in holes if y is read upwards (RFC 7946, §3.1.6)."""
    points: list[list[float]] = ring.tolist()
    if earth is not None:
        points = [list(earth.place(x, y)) for x, y in points]
        points = points[::-1] if earth.mirrored else points
    return [*points, points[0]]


def yolo_text(result: Result[Any]) -> str:
    """The rows of a YOLO label file; see `Result.to_yolo`."""
    height, width = result.orig_shape
    note_counts: Counter[str] = Counter()
    rows = [
        yolo_row(instance, instance.label, width, height, note_counts) for instance, _ in _instances(result, "to_yolo")
    ]
    return "".join(f"{row}\n" for row in rows if row)


def _instances(result: Result[Any], method: str) -> list[tuple[Instance, float]]:
    """Each instance with its score. Instances with an empty mask are left out, and a warning counts them."""
    found = []
    rows = zip(
        result.boxes.cls.tolist(), result.boxes.xyxy.tolist(), result.boxes.conf.tolist(), result.masks.rle, strict=True
    )
    for number, (label, box, score, rle) in enumerate(rows, 1):
        bitmap, x, y = decode_region(rle)
        if bitmap.size:
            found.append((Instance(label, tuple(box), RunLengths.of(bitmap, x, y), False, number), score))
    empty = len(result) - len(found)
    if empty:
        warnings.warn(f"{method}: left out {empty} of {len(result)} instances with an empty mask", stacklevel=4)
    return found

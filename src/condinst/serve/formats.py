"""The formats of an answer: a result → bytes and their media type."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from enum import StrEnum
from typing import Any, NamedTuple

from PIL import Image

from condinst.inference.instances.records import rounded
from condinst.inference.result import Result
from condinst.ops.bitmaps.contours import Polygon

JSON, PNG = "application/json", "image/png"


class Format(StrEnum):
    """The values of `format`."""

    coco = "coco"
    polygons = "polygons"
    labelme = "labelme"
    csv = "csv"
    png = "png"
    label_image = "label-image"


class Answer(NamedTuple):
    """The body of an answer.

    stages: milliseconds of each stage of the prediction. notes: remarks on how the picture was read.
    """

    content: bytes
    media_type: str
    stages: dict[str, float]
    notes: tuple[str, ...] = ()


def render(result: Result, format: Format, model: str, file_name: str, notes: tuple[str, ...] = ()) -> Answer:
    """Write a result in a format. model, file_name: names that the answer contains. notes: further remarks."""
    result = replace(result, notes=(*result.notes, *notes))
    content, media_type = _content(result, format, model, file_name)
    return Answer(content, media_type, result.speed, result.notes)


def _content(result: Result, format: Format, model: str, file_name: str) -> tuple[bytes, str]:
    match format:
        case Format.coco:
            return _json(coco_document(result, model, file_name)), JSON
        case Format.polygons:
            return _json(polygon_document(result, file_name)), JSON
        case Format.labelme:
            return _json(result.to_labelme(file_name)), JSON
        case Format.csv:
            return result.to_csv().encode(), "text/csv; charset=utf-8"
        case Format.png:
            return _png(Image.fromarray(result.plot())), PNG
        case Format.label_image:
            return _png(Image.fromarray(result.label_image())), PNG


def coco_document(result: Result, model: str, file_name: str) -> dict[str, Any]:
    """The document that `condinst predict` writes to results.json for one picture.

    info.notes, if present, lists remarks on how the picture was read.
    """
    height, width = result.orig_shape
    info: dict[str, Any] = {"description": f"predictions of the condinst model '{model}'", "sources": 1, "left_out": 0}
    return {
        "info": info | ({"notes": list(result.notes)} if result.notes else {}),
        "images": [{"id": 1, "file_name": file_name, "width": width, "height": height}],
        "categories": [{"id": label + 1, "name": name} for label, name in result.names.items()],
        "annotations": [
            {"id": number, "iscrowd": 0, **rounded(record)} for number, record in enumerate(result.to_coco(), 1)
        ],
    }


def polygon_document(result: Result, file_name: str) -> dict[str, Any]:
    """The instances with outlines in pixels, as [x, y] points on pixel corners. Each part has its own holes."""
    height, width = result.orig_shape
    rows = zip(result.to_coco(), result.boxes.cls.tolist(), result.polygons, strict=True)
    instances = [
        {
            "class": result.name_of(label),
            **{key: rounded(record)[key] for key in ("score", "bbox", "area")},
            "polygons": [_rings(part) for part in parts],
        }
        for record, label, parts in rows
    ]
    return {"image": {"file_name": file_name, "width": width, "height": height}, "instances": instances}


def _rings(part: Polygon) -> dict[str, Any]:
    return {"outer": part.outer.tolist(), "holes": [hole.tolist() for hole in part.holes]}


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, allow_nan=False).encode()


def _png(image: Image.Image) -> bytes:
    encoded = io.BytesIO()
    image.save(encoded, "PNG")
    return encoded.getvalue()

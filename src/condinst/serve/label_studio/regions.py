"""The regions of a prediction, as Label Studio stores them. Coordinates are percent of the picture."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from condinst.inference.result import Result
from condinst.serve.formats import JSON, Answer
from condinst.serve.label_studio.brush import brush_rle
from condinst.serve.label_studio.config import Control, Shape
from condinst.serve.outlines import outlines


def prediction(result: Result, control: Control, labels: Mapping[int, str], version: str) -> Answer:
    """The prediction of one task: its regions, and the mean of their scores."""
    regions = [
        _region(value, control, result, labels[label], score)
        for label, score, values in zip(
            result.boxes.cls.tolist(), result.boxes.conf.tolist(), _values(result, control.shape), strict=True
        )
        for value in values
    ]
    score = float(np.mean(result.conf.tolist())) if len(result) else 0.0
    document = {"result": regions, "score": round(score, 4), "model_version": version}
    return Answer(json.dumps(document, ensure_ascii=False).encode(), JSON, result.speed)


def _region(value: dict[str, Any], control: Control, result: Result, label: str, score: float) -> dict[str, Any]:
    height, width = result.orig_shape
    return {
        "id": uuid.uuid4().hex[:10],
        "from_name": control.name,
        "to_name": control.image,
        "type": control.shape.value,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "score": round(score, 4),
        "value": {**value, control.shape.value: [label]},
    }


def _values(result: Result, shape: Shape) -> Iterator[list[dict[str, Any]]]:
    """The values of each instance: one, or a polygon for each part of its mask. An empty mask has none."""
    height, width = result.orig_shape
    percent = 100 / np.array([width, height])
    match shape:
        case Shape.brush:
            for rle, area in zip(result.masks.rle, result.masks.areas.tolist(), strict=True):
                yield [{"format": "rle", "rle": brush_rle(rle)}] if area else []
        case Shape.polygon:
            for parts in result.polygons:
                yield [{"points": (ring * percent).tolist(), "closed": True} for ring in outlines(parts)]
        case Shape.rectangle:
            for corners in result.boxes.xyxy.tolist():
                (left, top), (right, bottom) = (np.reshape(corners, (2, 2)) * percent).tolist()
                yield [{"x": left, "y": top, "width": right - left, "height": bottom - top, "rotation": 0}]

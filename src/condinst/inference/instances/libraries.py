"""Convert a result to objects of other Python libraries. Each library is imported when it is needed."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from condinst.errors import UsageError
from condinst.ops.bitmaps.rle import decode

if TYPE_CHECKING:
    from condinst.inference.result import Result


def supervision_detections(result: Result[Any]) -> Any:
    """A `supervision.Detections`; see `Result.to_supervision`."""
    labels = np.asarray(result.boxes.cls)
    return optional("supervision", "to_supervision").Detections(
        xyxy=np.asarray(result.boxes.xyxy).reshape(-1, 4),
        mask=np.asarray(result.masks.data),
        confidence=np.asarray(result.boxes.conf),
        class_id=labels,
        tracker_id=None if result.boxes.id is None else np.asarray(result.boxes.id),
        data={"class_name": np.array([result.name_of(label) for label in labels.tolist()], dtype=str)},
    )


def transformers_records(result: Result[Any]) -> list[dict[str, Any]]:
    """The records of the image-segmentation pipeline of transformers; see `Result.to_hf`."""
    rows = zip(result.boxes.conf.tolist(), result.boxes.cls.tolist(), result.masks.rle, strict=True)
    return [
        {"score": score, "label": result.name_of(label), "mask": Image.fromarray(decode(rle) * np.uint8(255))}
        for score, label, rle in rows
    ]


def optional(module: str, method: str) -> Any:
    """Import a module. Raises UsageError with the install command if it is missing. method: its name in the message."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UsageError(f"{method}() needs {module}, which is not installed: pip install {module}") from None

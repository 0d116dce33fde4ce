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
from condinst.data.sample import Instance, RunLengths
from condinst.ops.bitmaps.rle import decode_region

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

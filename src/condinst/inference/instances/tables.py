"""Convert a result to a table with a row for each instance."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from condinst.inference.instances.libraries import optional

if TYPE_CHECKING:
    from condinst.inference.result import Result


def columns(result: Result[Any]) -> dict[str, Any]:
    """Arrays and lists of K values: x1, y1, x2, y2 in pixels, score, label, name, area in pixels; track_id if known."""
    labels = result.boxes.cls.tolist()
    tracks = {} if result.boxes.id is None else {"track_id": np.asarray(result.boxes.id)}
    return {
        **dict(zip(("x1", "y1", "x2", "y2"), np.asarray(result.boxes.xyxy).T, strict=True)),
        "score": np.asarray(result.boxes.conf),
        "label": labels,
        "name": [result.name_of(label) for label in labels],
        "area": result.masks.areas,
        **tracks,
    }


def data_frame(result: Result[Any]) -> Any:
    """A pandas DataFrame with these columns."""
    return optional("pandas", "to_df").DataFrame(columns(result))


def csv_text(result: Result[Any]) -> str:
    """A header line, then a line for each instance. Corners have 2 decimals, scores 4."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    held = columns(result)
    table.writerow(held)
    for x1, y1, x2, y2, score, *rest in zip(*held.values(), strict=True):
        table.writerow([*(f"{edge:.2f}" for edge in (x1, y1, x2, y2)), f"{score:.4f}", *rest])
    return text.getvalue()

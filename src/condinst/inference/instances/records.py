"""Convert a result to plain records in the formats of COCO and ultralytics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from condinst.errors import UsageError

if TYPE_CHECKING:
    from condinst.inference.result import Result


def coco_records(result: Result[Any], image_id: int, category_ids: Mapping[int, int] | None) -> list[dict[str, Any]]:
    """COCO result entries, one for each instance; see `Result.to_coco`."""
    labels = result.boxes.cls.tolist()
    ids = {label: label + 1 for label in labels} if category_ids is None else category_ids
    unknown = sorted(set(labels) - set(ids))
    if unknown:
        raise UsageError(f"to_coco: category_ids has no id for label {unknown[0]} ({result.names.get(unknown[0])})")
    corners = torch.as_tensor(result.boxes.xyxy).double()
    bboxes = torch.cat((corners[:, :2], corners[:, 2:] - corners[:, :2]), dim=1).tolist()
    rows = zip(labels, bboxes, result.boxes.conf.tolist(), result.masks.rle, result.masks.areas.tolist(), strict=True)
    found = [
        {
            "image_id": image_id,
            "category_id": ids[label],
            "bbox": bbox,
            "score": score,
            "segmentation": rle,
            "area": area,
        }
        for label, bbox, score, rle, area in rows
    ]
    return with_tracks(result, found)


def with_tracks(result: Result[Any], found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records of the instances, with the number of their track if there is one."""
    if result.boxes.id is None:
        return found
    return [record | {"track_id": track} for record, track in zip(found, result.boxes.id.tolist(), strict=True)]


def rounded(record: Mapping[str, Any]) -> dict[str, Any]:
    """A COCO result entry with the digits that files show: boxes with 2 decimals, scores with 4."""
    return {**record, "bbox": [round(edge, 2) for edge in record["bbox"]], "score": round(record["score"], 4)}


def summary_records(result: Result[Any], normalize: bool, decimals: int) -> list[dict[str, Any]]:
    """A record with the keys of ultralytics for each instance; see `Result.summary`."""
    boxes = result.boxes.xyxyn if normalize else result.boxes.xyxy
    outlines = result.masks.xyn if normalize else result.masks.xy
    rows = zip(result.boxes.cls.tolist(), result.boxes.conf.tolist(), boxes.tolist(), outlines, strict=True)
    found = [
        {
            "name": result.name_of(label),
            "class": label,
            "confidence": round(score, decimals),
            "box": {name: round(edge, decimals) for name, edge in zip(("x1", "y1", "x2", "y2"), box, strict=True)},
            "segments": {
                name: [round(number, decimals) for number in outline[:, axis].tolist()]
                for axis, name in enumerate("xy")
            },
        }
        for label, score, box, outline in rows
    ]
    return with_tracks(result, found)

"""AnnotatedData → COCO JSON with images/. Nothing is lost: polygons stay, masks become compressed run lengths."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from condinst.data.formats.coco.images import NEGATIVE, PARTIAL
from condinst.data.formats.new_folder import RENAMED, PictureNames, own_name, put
from condinst.data.sample import AnnotatedData, Instance, Polygons, Sample
from condinst.ops.bitmaps.rle import areas

WHOLE = "annotations"  # name of the file of a data set that is not split


def write_coco(parts: Mapping[str, AnnotatedData], folder: Path, link: bool, note_counts: Counter[str]) -> None:
    """Write <split>.json for each of `parts`, or annotations.json for "all". Ids are kept."""
    names = new_names(parts)
    for split, data in parts.items():
        images, annotations = [], []
        for sample, name in zip(data.samples, names[split], strict=True):
            put(sample.path, folder / "images" / name, link)
            images.append(_image(sample, name, data))
            annotations += [_record(instance, sample, data) for instance in sample.instances]
        categories = [
            {"id": number, "name": name} for number, name in zip(data.category_ids, data.classes, strict=True)
        ]
        document = {"images": images, "categories": categories, "annotations": annotations}
        text = json.dumps(document, ensure_ascii=False, allow_nan=False)
        (folder / f"{WHOLE if split == 'all' else split}.json").write_text(text, encoding="utf-8")
        kept = (own_name(sample.path).name == name for sample, name in zip(data.samples, names[split], strict=True))
        note_counts[RENAMED] += sum(not same for same in kept)


def new_names(parts: Mapping[str, AnnotatedData]) -> dict[str, list[str]]:
    """Return the new name of each sample's picture, by split."""
    names = PictureNames()
    return {split: [names.new(sample.path) for sample in data.samples] for split, data in parts.items()}


def _image(sample: Sample, name: str, data: AnnotatedData) -> dict[str, Any]:
    record: dict[str, Any] = {"id": sample.image_id, "file_name": name, "width": sample.width, "height": sample.height}
    if sample.federated is not None:
        absent, partial = ([data.category_ids[label] for label in sorted(part)] for part in sample.federated)
        record |= {NEGATIVE: absent, PARTIAL: partial}
    return record


def _record(instance: Instance, sample: Sample, data: AnnotatedData) -> dict[str, Any]:
    x0, y0, x1, y1 = instance.box
    shape, area = instance.shape, instance.area
    segmentation: Any = []
    if isinstance(shape, Polygons):
        segmentation = [part.ravel().tolist() for part in shape.parts]
    elif shape is not None:
        segmentation = shape.whole(sample.height, sample.width)
    if area is None:
        area = (x1 - x0) * (y1 - y0) if shape is None else int(areas([shape.whole(sample.height, sample.width)])[0])
    return {
        "id": instance.annotation_id,
        "image_id": sample.image_id,
        "category_id": data.category_ids[instance.label],
        "bbox": [round(number, 6) for number in (x0, y0, x1 - x0, y1 - y0)],  # differences of floats are not exact
        "area": area,
        "iscrowd": int(instance.crowd),
        "segmentation": segmentation,
    }

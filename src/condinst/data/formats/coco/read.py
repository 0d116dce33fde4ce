"""COCO annotation files → samples. This module checks every record once, so later code can trust the samples."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from condinst.data.findings import Finding, RecordError, Report, refuse
from condinst.data.formats.coco.categories import Categories, read_categories
from condinst.data.formats.coco.document import File, as_object, list_records, load_document, repeated_id
from condinst.data.formats.coco.images import Header, read_images
from condinst.data.formats.coco.shapes import EmptyError, read_area, read_box, read_shape
from condinst.data.formats.gather import SHORT
from condinst.data.formats.records import CORRECT, Record, integer
from condinst.data.pictures.image import MAX_PIXELS
from condinst.data.sample import AnnotatedData, Instance
from condinst.data.upright import turn_upright


def read_coco(annotations: Path, images: Path, max_pixels: int = MAX_PIXELS, report: Report = refuse) -> AnnotatedData:
    """Read a COCO instance file with pictures in the folder `images`. Samples keep the file's order.

    Labels are 0-based in the order of the sorted category ids. Instances without area in the box or mask (COCO has a
    few) are left out and counted in `notes`.

    Raises DataError for invalid JSON, missing keys or pictures, sizes that contradict each other, unknown or repeated
    ids, and malformed boxes, polygons or RLEs. The error names file, record and remedy. If `report` does not raise, bad
    records are left out. Only a record with one clear correction is kept: a picture's own size, coordinates turned with
    the picture, a repeated annotation id, a class with two ids.
    """
    file = File(annotations, images, max_pixels, report, Counter())
    with _without_collector():
        try:
            return _read(load_document(annotations), file)
        except RecordError as fault:
            report(fault.at(annotations, None))
            return AnnotatedData((), (), (), (), annotations, frozenset({annotations}))


@contextmanager
def _without_collector() -> Iterator[None]:
    """Stop Python's garbage collector, which would visit the millions of records of a large file again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Known(NamedTuple):
    """The ids that annotations may use. lost_images: ids of the pictures that could not be read."""

    headers: dict[int, Header]
    lost_images: set[int]
    categories: Categories


def _read(document: Record, file: File) -> AnnotatedData:
    categories = read_categories(document, file)
    headers, lost_images = read_images(document, file, categories.labels)
    known = _Known(headers, lost_images, categories)
    instances: dict[int, list[Instance]] = {image_id: [] for image_id in headers}
    seen: set[int] = set()
    for index, record in enumerate(list_records(document, "annotations")):
        where, annotation_id = f"annotations[{index}]", None
        try:
            annotation_id = integer(as_object(record), "id")
            if annotation_id in seen:
                file.report(repeated_id(annotation_id).at(file.path, annotation_id, where))
            seen.add(annotation_id)
            where = f"annotation {annotation_id}"
            image_id, instance = _read_annotation(record, annotation_id, known, file)
            record.clear()  # drop the records as they are read, so a large file is not in memory twice
        except _LeftOutError:
            file.note_counts["left out {} annotations of pictures or categories that could not be read"] += 1
        except EmptyError as nothing:
            remedy = "it is left out; draw it again or remove it"
            finding = file.finding("zero-area", "warning", annotation_id, f"{where}: {nothing}", remedy)
            file.tell("left out {} annotations whose box or mask covers no pixel", finding)
        except RecordError as fault:
            file.report(fault.at(file.path, annotation_id, where))
        else:
            instances[image_id].append(instance)
    samples = tuple(header.sample(image_id, instances[image_id]) for image_id, header in headers.items())
    names = categories.names
    files = frozenset({file.path})
    return AnnotatedData(samples, tuple(names), tuple(names.values()), file.notes(), file.path, files)


class _LeftOutError(Exception):
    """The annotation belongs to a picture or category that was already reported."""


def _read_annotation(record: Record, annotation_id: int, known: _Known, file: File) -> tuple[int, Instance]:
    """Return (image id, instance). Raises RecordError, EmptyError or _LeftOutError."""
    image_id = _refer(record, "image_id", known.headers, known.lost_images)
    labels = known.categories.labels
    label = labels[_refer(record, "category_id", labels, known.categories.left_out)]
    header = known.headers[image_id]
    height, width = header.height, header.width
    crowd = _is_crowd(record.get("iscrowd"))
    shape, left_out = read_shape(record, height, width)
    if left_out:
        message = f"annotation {annotation_id}: {left_out} of its polygons have fewer than three points"
        finding = file.finding("short-polygon", "warning", annotation_id, message, "they are left out; remove them")
        file.note_counts[SHORT] += left_out - 1
        file.tell(SHORT, finding)
    box, wrong = read_box(record, shape, height, width)
    if wrong:
        remedy = "condinst uses the box of the mask; correct the file"
        message = f"annotation {annotation_id} at ({box[0]:.0f}, {box[1]:.0f}): {wrong}"
        finding = Finding("box-mismatch", "warning", header.path, annotation_id, message, remedy)
        file.tell("{} boxes do not fit their masks; condinst uses the boxes of the masks", finding)
    area, wrong = read_area(record, height, width)
    if wrong:
        remedy = "condinst uses the area of the mask or of the box; correct the file"
        message = f"annotation {annotation_id}: {wrong}"
        finding = file.finding("area-mismatch", "info", annotation_id, message, remedy)
        file.tell("{} areas are impossible; condinst uses the areas of the masks or boxes", finding)
    instance = Instance(label, box, shape, crowd, annotation_id, area)
    return image_id, turn_upright(instance, header.orientation, width, height)


def _is_crowd(value: object) -> bool:
    """Return the value of iscrowd; some programs write it as text."""
    if value in (None, 0, 1, "0", "1"):
        return value in (1, "1")
    raise RecordError("bad-record", f"'iscrowd' must be 0 or 1, got {value!a:.40}", CORRECT)


def _refer(record: Record, key: str, known: dict[int, Any], left_out: set[int]) -> int:
    value = integer(record, key)
    if value in known:
        return value
    if value in left_out:
        raise _LeftOutError
    message, remedy = f"{key} {value} is not among the file's ", "add it or remove the annotation"
    if key == "image_id":
        raise RecordError("unknown-picture", message + "images", remedy)
    if value in (min(known) - 1, max(known) + 1):
        remedy += "; are the ids shifted by one?"
    raise RecordError("unknown-category", message + "categories", remedy)

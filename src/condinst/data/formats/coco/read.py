"""COCO annotation files → samples. Every record is checked here, once; nothing later doubts it."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from condinst.data.decode import SIDEWAYS
from condinst.data.findings import Finding, RecordError, Report, refuse
from condinst.data.formats.coco.pictures import Pictures
from condinst.data.formats.coco.shapes import EmptyError, read_box, read_shape
from condinst.data.formats.records import CORRECT, Record, integer, kind, load_json, numbers, text
from condinst.data.image import MAX_PIXELS, read_orientation, read_size
from condinst.data.sample import AnnotatedData, Instance, Sample
from condinst.data.upright import turn_upright
from condinst.errors import DataError


def read_coco(annotations: Path, images: Path, max_pixels: int = MAX_PIXELS, report: Report = refuse) -> AnnotatedData:
    """Read a COCO instance file whose pictures lie in the folder `images`; samples keep the file's order.

    Labels are 0-based in the order of the sorted category ids. Instances whose box or mask has no area (COCO has a few)
    are left out and counted in `notes`. Raises DataError naming file, record and remedy for invalid JSON, missing keys
    or pictures, sizes that contradict each other, unknown or repeated ids, and malformed boxes, polygons or RLEs. Where
    `report` lets it go on instead, bad records are left out, but for what has one sure reading: a picture's own size,
    coordinates turned with it, a repeated annotation id, a class of two ids.
    """
    file = _File(annotations, images, max_pixels, report)
    with _without_collector():
        try:
            return _read(_load(annotations), file)
        except RecordError as fault:
            report(fault.at(annotations, None))
            return AnnotatedData((), (), (), (), annotations, frozenset({annotations}))


@contextmanager
def _without_collector() -> Iterator[None]:
    """Python's garbage collector would visit the millions of records of a large file again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _File(NamedTuple):
    """What is read, and who is told."""

    path: Path
    images: Path
    max_pixels: int
    report: Report


@dataclass(frozen=True)
class _Header:
    """One picture. Its annotations are on `width`×`height` pixels, still to be turned upright from `orientation`."""

    path: Path
    width: int
    height: int
    orientation: int = 1

    def sample(self, image_id: int, instances: list[Instance]) -> Sample:
        across, down = (self.width, self.height) if self.orientation not in SIDEWAYS else (self.height, self.width)
        return Sample(self.path, image_id, across, down, tuple(instances))


class _Known(NamedTuple):
    """What annotations may refer to. left_out: ids of the pictures and categories that could not be read."""

    headers: dict[int, _Header]
    labels: dict[int, int]
    left_out: tuple[set[int], set[int]]


def _read(document: Record, file: _File) -> AnnotatedData:
    names, labels, lost_categories = _read_categories(document, file)
    headers, lost_images = _read_images(document, file)
    known = _Known(headers, labels, (lost_images, lost_categories))
    instances: dict[int, list[Instance]] = {image_id: [] for image_id in headers}
    empty = orphans = 0
    seen: set[int] = set()
    for index, record in enumerate(_records(document, "annotations")):
        where, annotation_id = f"annotations[{index}]", None
        try:
            annotation_id = integer(_object(record), "id")
            if annotation_id in seen:
                file.report(_repeated(annotation_id).at(file.path, annotation_id, where))
            seen.add(annotation_id)
            where = f"annotation {annotation_id}"
            image_id, instance = _read_annotation(record, annotation_id, known)
            record.clear()  # a large file is not held twice
        except _LeftOutError:
            orphans += 1
        except EmptyError as nothing:
            empty += 1
            remedy = "it is left out; draw it again or remove it"
            file.report(Finding("zero-area", "warning", file.path, annotation_id, f"{where}: {nothing}", remedy))
        except RecordError as fault:
            file.report(fault.at(file.path, annotation_id, where))
        else:
            instances[image_id].append(instance)
    samples = tuple(header.sample(image_id, instances[image_id]) for image_id, header in headers.items())
    notes = [f"{file.path}: left out {empty} annotations whose box or mask has no area"] if empty else []
    if orphans:
        notes.append(f"{file.path}: left out {orphans} annotations of pictures or categories that could not be read")
    return AnnotatedData(samples, tuple(names), tuple(names.values()), tuple(notes), file.path, frozenset({file.path}))


class _LeftOutError(Exception):
    """The annotation is of a picture or a category that was told of already."""


def _load(path: Path) -> Record:
    document = load_json(path, "give a COCO JSON file")
    if not isinstance(document, dict):
        message = f"expected an object of images, annotations and categories, got {kind(document)}"
        raise RecordError("bad-file", message, "give a COCO JSON file")
    return document


def _records(document: Record, key: str) -> list[Any]:
    if key not in document:
        raise RecordError("bad-file", f"no '{key}'", "a COCO instance file has images, annotations and categories")
    records = document[key]
    if not isinstance(records, list):
        raise RecordError("bad-file", f"'{key}' must be a list, got {kind(records)}", "write the file again")
    return records


def _object(record: Any) -> Record:
    if not isinstance(record, dict):
        raise RecordError("bad-record", f"must be an object, got {kind(record)}", CORRECT)
    return record


def _read_categories(document: Record, file: _File) -> tuple[dict[int, str], dict[int, int], set[int]]:
    """(category id → name, in the order of ids; category id → label; ids left out)."""
    found: dict[int, str] = {}
    left_out: set[int] = set()
    for index, record in enumerate(_records(document, "categories")):
        where, category_id = f"categories[{index}]", None
        try:
            category_id = integer(_object(record), "id")
            if category_id in found:
                raise _repeated(category_id)
            found[category_id] = text(record, "name")
        except RecordError as fault:
            left_out |= set() if category_id is None else {category_id}
            file.report(fault.at(file.path, category_id, where))
    if not found:
        raise RecordError("no-classes", "'categories' is empty", "name at least one class")
    return *_merge_names(dict(sorted(found.items())), file), left_out


def _merge_names(found: dict[int, str], file: _File) -> tuple[dict[int, str], dict[int, int]]:
    """Names without repetition, the first id standing for the others; category id → label."""
    first: dict[str, int] = {}
    labels: dict[int, int] = {}
    for category_id, name in found.items():
        if name in first:
            message = f"'categories' gives two ids the same name: {first[name]} and {category_id} are both '{name}'"
            file.report(Finding("duplicate-class", "error", file.path, category_id, message, "rename or merge them"))
        labels[category_id] = list(first).index(name) if name in first else len(first)
        first.setdefault(name, category_id)
    return {category_id: name for name, category_id in first.items()}, labels


def _read_images(document: Record, file: _File) -> tuple[dict[int, _Header], set[int]]:
    """Image id → file and size, which must be the file's own: a mix-up shows now, not hours into training; ids left
    out."""
    headers: dict[int, _Header] = {}
    left_out: set[int] = set()
    records = _records(document, "images")
    pictures = Pictures(file.path, file.images, records)
    for index, record in enumerate(records):
        where, image_id = f"images[{index}]", None
        try:
            image_id = integer(_object(record), "id")
            if image_id in headers:
                raise _repeated(image_id)
            name, stated = text(record, "file_name"), _stated_size(record)
            where = f"{where} (id {image_id})"
            headers[image_id] = _read_header(pictures.find(name), stated, image_id, file, where)
        except RecordError as fault:
            left_out |= set() if image_id is None else {image_id}
            file.report(fault.at(file.path, image_id, where))
    return headers, left_out


def _stated_size(record: Record) -> tuple[int, int] | None:
    """(height, width); None where the record has neither."""
    if record.get("width") is None and record.get("height") is None:
        return None
    return integer(record, "height"), integer(record, "width")


def _read_header(path: Path, stated: tuple[int, int] | None, image_id: int, file: _File, where: str) -> _Header:
    """The picture as recorded; where its size contradicts the file's own, the latter, once that was told."""
    try:
        actual = read_size(path, max_pixels=file.max_pixels)
        agrees = stated is None or actual == stated
        orientation = 1 if agrees else read_orientation(path, max_pixels=file.max_pixels)
    except DataError as error:
        fault = "unreadable-picture" if os.path.isfile(path) else "missing-picture"
        raise RecordError(fault, str(error), f"is {file.images} the folder of the pictures?") from None
    if stated is None or agrees:
        return _Header(path, actual[1], actual[0])
    height, width = stated
    says = f"{where}: says {width}×{height}, but {path.name} has {actual[1]}×{actual[0]} pixels"
    if orientation in SIDEWAYS and actual == (width, height):
        says += f" once it is turned by its EXIF orientation {orientation}"
        remedy = "turn the picture's own pixels and drop the tag, or the annotations"
        file.report(Finding("exif-rotated", "error", file.path, image_id, says, remedy))
        return _Header(path, width, height, orientation)
    says += " (upright by its EXIF orientation)" if orientation > 1 else ""
    file.report(Finding("wrong-size", "error", file.path, image_id, says, "correct the record or the file"))
    return _Header(path, actual[1], actual[0])


def _read_annotation(record: Record, annotation_id: int, known: _Known) -> tuple[int, Instance]:
    """(image id, instance). Raises RecordError, EmptyError or _LeftOutError."""
    lost_images, lost_categories = known.left_out
    image_id = _refer(record, "image_id", known.headers, lost_images)
    label = known.labels[_refer(record, "category_id", known.labels, lost_categories)]
    header = known.headers[image_id]
    crowd = record.get("iscrowd")
    if crowd not in (None, 0, 1):
        raise RecordError("bad-record", f"'iscrowd' must be 0 or 1, got {crowd!a:.40}", CORRECT)
    shape = read_shape(record, header.height, header.width)
    box = read_box(record, shape)
    if box[2] < box[0] or box[3] < box[1]:
        message = f"'bbox' must be [x, y, width, height], got {record['bbox']!a:.60}, of negative size"
        raise RecordError("bad-box", message, CORRECT)
    if box[2] == box[0] or box[3] == box[1]:
        raise EmptyError("the box has no area")
    if box[0] >= header.width or box[1] >= header.height or box[2] <= 0 or box[3] <= 0:
        message = f"the box {record['bbox']} lies outside the picture of {header.width}×{header.height} pixels"
        raise RecordError("outside", message, "is it that of another picture, or of another size of this one?")
    area = numbers([record["area"]], "area")[0] if record.get("area") is not None else None
    instance = Instance(label, box, shape, bool(crowd), annotation_id, area)
    return image_id, turn_upright(instance, header.orientation, header.width, header.height)


def _repeated(value: int) -> RecordError:
    return RecordError("duplicate-id", f"id {value} is used twice", "make ids unique")


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

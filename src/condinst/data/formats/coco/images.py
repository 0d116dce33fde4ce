"""The pictures of a COCO file: image id → file, size, and the classes that annotators looked for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condinst.data.findings import Finding, RecordError
from condinst.data.formats.coco.document import File, as_object, list_records, repeated_id
from condinst.data.formats.coco.pictures import Pictures, stated_name
from condinst.data.formats.gather import NO_SIZES, SAME_SIZES, UNSURE, no_size, stated_size, unsure_which_way_up
from condinst.data.formats.records import Record, integer, text
from condinst.data.pictures.decode import SIDEWAYS
from condinst.data.pictures.image import read_header
from condinst.data.sample import Federated, Instance, Sample
from condinst.errors import DataError

NEGATIVE, PARTIAL = "neg_category_ids", "not_exhaustive_category_ids"  # LVIS's fields of an image


@dataclass(frozen=True)
class Header:
    """One picture.

    The annotations use pixels of the stored picture, `width`×`height`, and are turned upright from `orientation`.
    """

    path: Path
    width: int
    height: int
    orientation: int = 1
    federated: Federated | None = None

    def sample(self, image_id: int, instances: list[Instance]) -> Sample:
        """Return the picture with its objects, upright."""
        across, down = (self.width, self.height) if self.orientation not in SIDEWAYS else (self.height, self.width)
        return Sample(self.path, image_id, across, down, tuple(instances), self.federated)


def read_images(document: Record, file: File, labels: Mapping[int, int]) -> tuple[dict[int, Header], set[int]]:
    """Return image id → file and size, and the ids left out.

    Each size must match the file's own size. This check finds a mix-up before training starts. labels: by category id.
    """
    headers: dict[int, Header] = {}
    left_out: set[int] = set()
    records = list_records(document, "images")
    pictures = Pictures(file.path, file.images, records)
    for index, record in enumerate(records):
        where, image_id = f"images[{index}]", None
        try:
            image_id = integer(as_object(record), "id")
            if image_id in headers:
                raise repeated_id(image_id)
            name = text({"file_name": stated_name(record)}, "file_name")
            where = f"{where} (id {image_id})"
            stated = _stated_size(record, image_id, file, where)
            federated = _federated(record, labels)
            overlay = record.get("overlay") if isinstance(record.get("overlay"), str) else None
            path = pictures.find(name, overlay)
            headers[image_id] = _read_header(path, stated, federated, image_id, file, where)
        except RecordError as fault:
            left_out |= set() if image_id is None else {image_id}
            file.report(fault.at(file.path, image_id, where))
    if pictures.elsewhere:
        file.note_counts["{} pictures are read from the folder of images, but their file_name names another place"] += (
            pictures.elsewhere
        )
    return headers, left_out


def _stated_size(record: Record, image_id: int, file: File, where: str) -> tuple[int, int] | None:
    """Return (height, width), or None if the record has no size.

    A value that is no size is reported, and the size of the file is used instead.
    """
    if record.get("width") is None and record.get("height") is None:
        return None
    if stated := stated_size(record.get("height"), record.get("width")):
        return stated
    message, remedy = no_size(record.get("height"), record.get("width"))
    finding = file.finding("wrong-size", "warning", image_id, f"{where}: {message}", remedy)
    file.tell(NO_SIZES, finding)
    return None


def _federated(record: Record, labels: Mapping[int, int]) -> Federated | None:
    """Return LVIS's fields; None if the record has none.

    Without `neg_category_ids`, annotators looked for all classes.
    """
    if record.get(NEGATIVE) is None and record.get(PARTIAL) is None:
        return None
    absent = _labels(record, NEGATIVE, labels) if record.get(NEGATIVE) is not None else frozenset(labels.values())
    return Federated(absent, _labels(record, PARTIAL, labels))


def _labels(record: Record, key: str, labels: Mapping[int, int]) -> frozenset[int]:
    listed: Any = record.get(key) or []
    if not isinstance(listed, list) or not all(type(number) is int for number in listed):
        raise RecordError("bad-record", f"'{key}' must be a list of category ids, got {listed!a:.40}", "correct it")
    return frozenset(labels[number] for number in listed if number in labels)


def _read_header(
    path: Path, stated: tuple[int, int] | None, federated: Federated | None, image_id: int, file: File, where: str
) -> Header:
    """Return the picture of a record.

    If the size in the record contradicts the size of the file, the difference is reported and the file's size is used.
    """
    try:
        header = read_header(path, max_pixels=file.max_pixels)
    except DataError as error:
        fault = "unreadable-picture" if os.path.isfile(path) else "missing-picture"
        raise RecordError(
            fault, str(error), "name the folder of the pictures: --images FOLDER (images= in Python)"
        ) from None
    actual, orientation = header.size, header.orientation
    upright = Header(path, actual[1], actual[0], federated=federated)
    if actual == stated:
        file.note_counts[SAME_SIZES] += header.may_be_turned
        return upright
    if stated is None:
        if orientation != 1:
            file.tell(UNSURE, unsure_which_way_up(file.path, image_id, where, orientation))
        return upright
    height, width = stated
    says = f"{where}: says {width}×{height}, but {path.name} has {actual[1]}×{actual[0]} pixels"
    if orientation in SIDEWAYS and actual == (width, height):
        says += f" after its rotation by EXIF orientation {orientation}"
        remedy = "rotate the pixels and remove the tag, or rotate the annotations"
        file.report(Finding("exif-rotated", "error", file.path, image_id, says, remedy))
        return Header(path, width, height, orientation, federated)
    says += " (upright by its EXIF orientation)" if orientation > 1 else ""
    file.report(Finding("wrong-size", "error", file.path, image_id, says, "correct the record or the file"))
    return upright

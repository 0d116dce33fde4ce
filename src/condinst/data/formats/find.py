"""Finds out which annotation format a path holds, and how the data set there is divided. Nothing is read yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from condinst.data.formats import cvat, voc
from condinst.data.formats.coco import folders as coco
from condinst.data.formats.labelme import read as labelme
from condinst.data.formats.masks import label_images, mask_folder
from condinst.data.formats.splits import WHOLE, Part, Parts, name_subsets, split_named
from condinst.data.formats.unread import ARCHIVES
from condinst.data.formats.yolo import read as yolo
from condinst.data.listing import subfolders
from condinst.errors import DataError, some


class Format(NamedTuple):
    """name: for messages. find: the subsets of a path in this format, found without reading it whole. looks: the files
    that show the format, for messages."""

    name: str
    find: Callable[[Path], Parts]
    looks: str


FORMATS = (
    Format("COCO", coco.find, "train.json, annotations.json or annotations/instances_….json, with images/"),
    Format("YOLO", yolo.find, "data.yaml"),
    Format("labelme", labelme.find, "JSON files beside the pictures"),
    Format("CVAT", cvat.find, "annotations.xml"),
    Format("masks", mask_folder.find, "ID/images/ with ID/masks/, or images/NAME.png with masks/NAME/"),
    Format("label images", label_images.find, "images/ with labels/ or masks/ of PNG or TIFF"),
    Format("Pascal VOC", voc.find, "JPEGImages/ and SegmentationObject/"),
)


def find_parts(data: Path) -> Parts:
    """How to read each split at `data`, nothing read yet. Raises DataError where it is in no format, or in two."""
    if data.suffix.lower() in ARCHIVES and data.is_file():
        raise DataError(f"{data}: an archive; unpack it and give the folder")
    with readable(data):
        if not data.exists():
            raise DataError(f"{data}: no such file or folder; give an annotation file or the folder of a data set")
        found = {format.name: parts for format in FORMATS if (parts := format.find(data))}
        if data.is_dir():
            found |= _find_below(data)
            found = found or _find_lone(data)
    if not found:
        if inner := _inner(data):
            held = some([str(folder) for folder in inner])
            raise DataError(f"{data}: no data set itself, but holds {held}; name the one that is meant")
        looked = "; ".join(f"{format.name} ({format.looks})" for format in FORMATS)
        raise DataError(f"{data}: no data set of a known format; looked for {looked}")
    if len(found) > 1:
        raise DataError(f"{data}: holds {' and '.join(found)}; name the file or folder to use instead")
    return next(iter(found.values()))


def claims_beside(file: Path, images: Path | None) -> Iterator[Path]:
    """Files that belong to the data set of the annotation file `file` besides those that `file` names."""
    yield from coco.claims_beside(file, images)


def holds_one_picture(file: Path) -> bool:
    """Whether `file` annotates a single picture, so that the pictures beside it belong to other files."""
    return labelme.is_labelme(file)


@contextmanager
def readable(data: Path) -> Iterator[None]:
    """Turn an OSError inside into a DataError that names its file."""
    try:
        yield
    except OSError as error:
        place = error.filename or data
        raise DataError(f"{place!s:.300}: cannot be read ({error.strerror or error}); see to its permissions") from None


def _find_below(data: Path) -> dict[str, Parts]:
    """What the folders train/ and val/ (or valid/) hold that are whole data sets themselves, by format, and further
    subsets beside them of the same format."""
    folders = subfolders(data)
    if not any(split_named(folder.name) for folder in folders):
        return {}
    by_format: dict[str, dict[str, Part]] = {}
    for folder in folders:
        for name, part in _whole(folder).items():
            by_format.setdefault(name, {})[folder.name] = part
    return {
        f"{name} in train/ and val/": {subset: parts[folder] for subset, folder in name_subsets(parts).items()}
        for name, parts in by_format.items()
        if any(map(split_named, parts))
    }


def _whole(folder: Path) -> Parts:
    """How to read the folder as a data set that is not divided, by format."""
    found = {format.name: part for format in FORMATS if (part := format.find(folder).get(WHOLE))}
    found = found or {name: parts[WHOLE] for name, parts in _find_lone(folder).items() if WHOLE in parts}
    return {name: part._replace(claims=lambda _: [folder]) for name, part in found.items()}


def _inner(data: Path) -> list[Path]:
    """The folders right below that are data sets, as where an archive holds a folder."""
    below = subfolders(data) if data.is_dir() else []
    return [path for path in below if any(format.find(path) for format in FORMATS) or _find_lone(path)]


def _find_lone(folder: Path) -> dict[str, Parts]:
    """A COCO file or a data.yaml of any name, where nothing else says what the folder holds."""
    found = {"COCO": coco.find_lone(folder), "YOLO": yolo.find_lone(folder)}
    return {name: parts for name, parts in found.items() if parts}

"""Finds the annotation format at a path, and the subsets of the data set. Reads no annotations yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from condinst.data.formats import cvat, voc
from condinst.data.formats.coco import folders as coco
from condinst.data.formats.file_kinds import ARCHIVES
from condinst.data.formats.labelme import read as labelme
from condinst.data.formats.masks import label_images, mask_folder
from condinst.data.formats.splits import WHOLE, Part, Parts, name_subsets, split_named
from condinst.data.formats.yolo import read as yolo
from condinst.data.pictures.listing import subfolders
from condinst.errors import DataError, some


class Format(NamedTuple):
    """A known format.

    name: for messages. find: returns the subsets at a path in this format, without reading all annotations. looks: the
    files that show the format, for messages.
    """

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
    """Return how to read each split at `data`, without reading it.

    Raises DataError if `data` is in no known format, or in two formats.
    """
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
            raise DataError(f"{data}: not a data set, but it holds {held}; name one of them")
        looked = "; ".join(f"{format.name} ({format.looks})" for format in FORMATS)
        raise DataError(f"{data}: not a data set of a known format; looked for {looked}")
    if len(found) > 1:
        raise DataError(f"{data}: holds {' and '.join(found)}; name the file or folder to use instead")
    return next(iter(found.values()))


def claims_beside(file: Path, images: Path | None) -> Iterator[Path]:
    """Return files of the data set of `file`, an annotation file, besides the files that `file` names."""
    yield from coco.claims_beside(file, images)


def holds_one_picture(file: Path) -> bool:
    """Return whether `file` annotates only one picture, so the pictures beside it belong to other files."""
    return labelme.is_labelme(file)


@contextmanager
def readable(data: Path) -> Iterator[None]:
    """Turn an OSError inside into a DataError with the name of its file."""
    try:
        yield
    except OSError as error:
        place = error.filename or data
        raise DataError(f"{place!s:.300}: cannot be read ({error.strerror or error}); check its permissions") from None


def _find_below(data: Path) -> dict[str, Parts]:
    """Return the complete data sets in the folders train/ and val/ (or valid/), by format.

    Other subsets beside them in the same format are included.
    """
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
    """Return how to read the folder as a data set without splits, by format."""
    found = {format.name: part for format in FORMATS if (part := format.find(folder).get(WHOLE))}
    found = found or {name: parts[WHOLE] for name, parts in _find_lone(folder).items() if WHOLE in parts}
    return {name: part._replace(claims=lambda _: [folder]) for name, part in found.items()}


def _inner(data: Path) -> list[Path]:
    """Return the folders in this folder that are data sets, as after unpacking an archive that holds a folder."""
    below = subfolders(data) if data.is_dir() else []
    return [path for path in below if any(format.find(path) for format in FORMATS) or _find_lone(path)]


def _find_lone(folder: Path) -> dict[str, Parts]:
    """Return a COCO file or a data.yaml of any name, if nothing else shows the format of the folder."""
    found = {"COCO": coco.find_lone(folder), "YOLO": yolo.find_lone(folder)}
    return {name: parts for name, parts in found.items() if parts}

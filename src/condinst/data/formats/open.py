"""Opens a data set by itself: which annotation format a path holds, how it is split, where its pictures lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from condinst.data.class_names import alike, show_names
from condinst.data.findings import Report, refuse
from condinst.data.formats import cvat, voc
from condinst.data.formats.coco import folders as coco
from condinst.data.formats.labelme import read as labelme
from condinst.data.formats.masks import label_images, mask_folder
from condinst.data.formats.splits import WHOLE, Part, Parts, name_subsets, split_named
from condinst.data.formats.yolo import read as yolo
from condinst.data.listing import subfolders
from condinst.data.pages import note_pages
from condinst.data.sample import AnnotatedData
from condinst.errors import DataError, some

ARCHIVES = frozenset({".7z", ".gz", ".rar", ".tar", ".tgz", ".zip"})


class Format(NamedTuple):
    """name: for people. find: what of it a path holds, at a glance. looks: how to tell it, for people."""

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


def open_data(data: Path, split: str = "train", images: Path | None = None, report: Report = refuse) -> AnnotatedData:
    """Read the annotations of `split` at `data`, a file or folder in any of FORMATS; all of it where it is not split.

    images: folder of the pictures, where they lie elsewhere. Raises DataError for what is no data set, or two, for a
    split that is missing, and whatever `report` raises about the records.
    """
    parts = find_parts(data)
    part = parts[WHOLE] if set(parts) == {WHOLE} else parts.get(split)
    if part is None:
        present = some(list(parts))
        raise DataError(f"{data}: has {present} but no {split} split; name the file or folder to use instead")
    with _told(data):
        return _with_spellings(_with_pages(part.read(images, report), report))


def _with_pages(data: AnnotatedData, report: Report) -> AnnotatedData:
    """`data` with a note on files of several pages. `condinst data check` opens every picture and finds them itself."""
    note = note_pages({sample.path: None for sample in data.samples}) if report is refuse else None
    return data if note is None else replace(data, notes=(*data.notes, f"{data.source}: {note}"))


def _with_spellings(data: AnnotatedData) -> AnnotatedData:
    """`data` with a note for each group of class names that look alike."""
    notes = [
        f"{data.source}: these class names look alike, but are different classes: {show_names(group)}"
        for group in alike(data.classes)
    ]
    return replace(data, notes=(*data.notes, *notes)) if notes else data


def list_splits(data: Path) -> tuple[str, ...]:
    """The subsets that the data set at `data` tells apart: train, val, test, then those of other names; none where it
    is to be used as a whole."""
    return tuple(name for name in find_parts(data) if name != WHOLE)


def find_parts(data: Path) -> Parts:
    """How to read each split at `data`, nothing read yet. Raises DataError where it is in no format, or in two."""
    if data.suffix.lower() in ARCHIVES and data.is_file():
        raise DataError(f"{data}: an archive; unpack it and give the folder")
    with _told(data):
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


@contextmanager
def _told(data: Path) -> Iterator[None]:
    """An OSError inside becomes a DataError that names its file."""
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

"""Opens a data set by itself: which annotation format a path holds, how it is split, where its pictures lie."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from condinst.data.class_names import alike, show_names
from condinst.data.findings import Report, refuse
from condinst.data.formats import cvat, voc
from condinst.data.formats.coco import folders as coco
from condinst.data.formats.gather import list_pictures
from condinst.data.formats.labelme import read as labelme
from condinst.data.formats.masks import label_images, mask_folder
from condinst.data.formats.splits import SPLITS, WHOLE, Part, Parts, name_subsets, split_named
from condinst.data.formats.unread import ARCHIVES, find_unread, tell_unread
from condinst.data.formats.yolo import read as yolo
from condinst.data.image import SUFFIXES
from condinst.data.listing import Tree, list_tree, subfolders
from condinst.data.pages import note_pages
from condinst.data.sample import AnnotatedData
from condinst.errors import DataError, some


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

    images: folder of the pictures, where they lie elsewhere. Notes count what lies there and no subset uses, and name
    the subsets besides train, val and test. Raises DataError for what is no data set, or two, for a split that is
    missing, and whatever `report` raises about the records.
    """
    parts = find_parts(data)
    read = _read(data, parts, split, images, report)
    others = [name for name in parts if name not in (*SPLITS, WHOLE, split)]
    notes = [f"{data}: {split} uses no picture of {some(others)}; name its file or folder to use it"] if others else []
    return replace(read, notes=(*read.notes, *notes, *_count_unread(data, parts, {split: read}, images, report)))


def open_part(data: Path, split: str, images: Path | None = None, report: Report = refuse) -> AnnotatedData:
    """The same, but nothing is said of what else lies at `data`."""
    return _read(data, find_parts(data), split, images, report)


def _read(data: Path, parts: Parts, split: str, images: Path | None, report: Report) -> AnnotatedData:
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


def count_unread(
    data: Path, read: Mapping[str, AnnotatedData], images: Path | None = None, report: Report = refuse
) -> list[str]:
    """Notes that count the pictures, annotation files and archives at `data` which no subset uses; each is reported as
    a Finding, too. read: subsets that were read; of the others, only the names of their files are looked up."""
    return _count_unread(data, find_parts(data), read, images, report)


def _count_unread(
    data: Path, parts: Parts, read: Mapping[str, AnnotatedData], images: Path | None, report: Report
) -> list[str]:
    used = {path for each in read.values() for path in (*each.files, *(sample.path for sample in each.samples))}

    def claims() -> Iterator[Path]:
        for name, part in parts.items():
            unread = name not in read and name != WHOLE
            yield from (path for path in part.claims(images) if unread or not path.is_dir())
        if data.is_file():
            yield from coco.claims_beside(data, images)

    with _told(data):
        root = data if data.is_dir() else data.parent
        return tell_unread(find_unread(_searched(data, parts, images, used), used, claims), root, report)


def _searched(data: Path, parts: Parts, images: Path | None, used: set[Path]) -> Tree:
    """What is there to be used: all in the folder, or of a COCO or CVAT file the pictures beside those it names."""
    roots = [part.root for part in parts.values() if part.root is not None]
    if data.is_file() and not roots:
        folders = {path.parent for path in used if path.suffix.lower() in SUFFIXES}
        beside = [] if labelme.is_labelme(data) else [path for folder in folders for path in list_pictures(folder)]
        return Tree(tuple(sorted(beside)), (), (), ())
    searched = [data if data.is_dir() else data.parent, *([images] if images else []), *roots]
    trees = [list_tree(folder) for folder in _outermost(searched) if folder.is_dir()]
    return Tree(*(tuple(sorted({path for tree in trees for path in tree[part]})) for part in range(4)))


def _outermost(folders: Iterable[Path]) -> list[Path]:
    """Without those that lie in another one."""
    found: dict[Path, Path] = {}
    for folder in folders:
        place = folder.resolve()
        if not any(place.is_relative_to(other) for other in found):
            found[place] = folder
    return list(found.values())


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

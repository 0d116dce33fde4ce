"""Opens an annotated data set in any known format, and counts the files that no subset uses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from condinst.data.class_names import alike, show_names
from condinst.data.findings import Report, refuse
from condinst.data.formats.find import claims_beside, find_parts, holds_one_picture, readable
from condinst.data.formats.gather import list_pictures
from condinst.data.formats.splits import SPLITS, WHOLE, Parts
from condinst.data.formats.unread import find_unread, tell_unread
from condinst.data.pictures.image import SUFFIXES
from condinst.data.pictures.listing import Tree, list_tree
from condinst.data.pictures.pages import note_pages
from condinst.data.sample import AnnotatedData
from condinst.errors import DataError, some


class Source(NamedTuple):
    """A data set whose format and subsets are known. A file that holds several subsets is parsed once for all.

    source = find_source(Path("my_data"))
    parts = {name: source.read(name) for name in source.splits}
    """

    data: Path
    parts: Parts

    @property
    def splits(self) -> tuple[str, ...]:
        """The subsets: train, val, test, then other names; nothing if the data set is not divided."""
        return tuple(name for name in self.parts if name != WHOLE)

    def read(self, split: str, images: Path | None = None, report: Report = refuse) -> AnnotatedData:
        """Read the annotations as `open_data` does, without notes about other files of the data set."""
        part = self.parts[WHOLE] if set(self.parts) == {WHOLE} else self.parts.get(split)
        if part is None:
            present = some(list(self.parts))
            raise DataError(f"{self.data}: has {present} but no {split} split; name the file or folder to use instead")
        with readable(self.data):
            return _with_repeats(_with_spellings(_with_pages(part.read(images, report), report)))

    def count_unread(
        self, read: Mapping[str, AnnotatedData], images: Path | None = None, report: Report = refuse
    ) -> list[str]:
        """Return notes that count the pictures, annotation files and archives of the data set that no subset uses.

        Each note is also reported as a Finding. read: the subsets already read. Only file names are looked up for the
        other subsets.
        """
        return _count_unread(self.data, self.parts, read, images, report)


def find_source(data: Path) -> Source:
    """Find the format and the subsets of the data set at `data`, a file or folder. Raises DataError as `open_data`."""
    return Source(data, find_parts(data))


def open_data(data: Path, split: str = "train", images: Path | None = None, report: Report = refuse) -> AnnotatedData:
    """Read the annotations of `split` at `data`, a file or folder in any known format.

    A data set without splits is read whole. images: folder of the pictures, if they lie elsewhere. Notes count the
    files that no subset uses, and name the subsets other than train, val and test. Raises DataError if `data` is no
    data set or holds two data sets, and if the split is missing. Errors of single records go to `report`, and `report`
    may raise.
    """
    source = find_source(data)
    read = source.read(split, images, report)
    others = [name for name in source.splits if name not in (*SPLITS, split)]
    notes = (
        [f"{data}: {split} uses no picture of {some(others)}; to use one of them, name its file or folder"]
        if others
        else []
    )
    return replace(read, notes=(*read.notes, *notes, *source.count_unread({split: read}, images, report)))


def list_splits(data: Path) -> tuple[str, ...]:
    """Return the subsets of the data set at `data`: train, val, test, then other names.

    Returns nothing if the data set is not divided.
    """
    return find_source(data).splits


def _with_pages(data: AnnotatedData, report: Report) -> AnnotatedData:
    """Add a note on files of several pages.

    `condinst data check` does not need this note, because it opens every picture.
    """
    note = note_pages({sample.path: None for sample in data.samples}) if report is refuse else None
    return data if note is None else replace(data, notes=(*data.notes, f"{data.source}: {note}"))


def _with_spellings(data: AnnotatedData) -> AnnotatedData:
    """Add a note for each group of class names that look alike."""
    notes = [
        f"{data.source}: these class names look alike, but are different classes: {show_names(group)}"
        for group in alike(data.classes)
    ]
    return replace(data, notes=(*data.notes, *notes)) if notes else data


def _with_repeats(data: AnnotatedData) -> AnnotatedData:
    """`data` with a note on pictures that are listed twice: objects of one record are background in the other."""
    again = len(data.samples) - len({sample.path for sample in data.samples})
    note = f"{data.source}: {again} pictures are listed twice; the objects of each record are background in the other"
    return replace(data, notes=(*data.notes, note)) if again else data


def _count_unread(
    data: Path, parts: Parts, read: Mapping[str, AnnotatedData], images: Path | None, report: Report
) -> list[str]:
    used = {path for each in read.values() for path in (*each.files, *(sample.path for sample in each.samples))}

    def claims() -> Iterator[Path]:
        for name, part in parts.items():
            unread = name not in read and name != WHOLE
            yield from (path for path in part.claims(images) if unread or not path.is_dir())
        if data.is_file():
            yield from claims_beside(data, images)

    with readable(data):
        root = data if data.is_dir() else data.parent
        return tell_unread(find_unread(_searched(data, parts, images, used), used, claims), root, report)


def _searched(data: Path, parts: Parts, images: Path | None, used: set[Path]) -> Tree:
    """Return the files at `data` that a subset could use.

    For a folder, these are all files. For a COCO or CVAT file, these are the pictures beside the named pictures.
    """
    roots = [part.root for part in parts.values() if part.root is not None]
    if data.is_file() and not roots:
        folders = {path.parent for path in used if path.suffix.lower() in SUFFIXES}
        beside = [] if holds_one_picture(data) else [path for folder in folders for path in list_pictures(folder)]
        return Tree(tuple(sorted(beside)), (), (), ())
    searched = [data if data.is_dir() else data.parent, *([images] if images else []), *roots]
    trees = [list_tree(folder) for folder in _outermost(searched) if folder.is_dir()]
    return Tree(*(tuple(sorted({path for tree in trees for path in tree[part]})) for part in range(len(Tree._fields))))


def _outermost(folders: Iterable[Path]) -> list[Path]:
    """Return the folders that do not lie in another of the folders."""
    found: dict[Path, Path] = {}
    for folder in folders:
        place = folder.resolve()
        if not any(place.is_relative_to(other) for other in found):
            found[place] = folder
    return list(found.values())

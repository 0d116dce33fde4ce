"""Code for readers of formats without numbered records: collects pictures and named objects for AnnotatedData."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from condinst.data.findings import Finding, RecordError, Report
from condinst.data.formats.records import integer, printable
from condinst.data.pictures.decode import SIDEWAYS
from condinst.data.pictures.image import SUFFIXES, read_header, read_orientation, read_size
from condinst.data.pictures.listing import AnyCase, entries, list_tree
from condinst.data.sample import AnnotatedData, Box, Instance, Sample
from condinst.data.shapes import Shape, covers_pixels, refuse_outside, run_lengths, solid_box
from condinst.errors import DataError

SHORT = "left out {} polygons of fewer than three points; the other shapes of their objects are kept"
LONGEST_NAME = 200  # characters of a class


@dataclass(frozen=True)
class Drawn:
    """One object, in upright pixels of its picture, with the name of its class. shape: None if there is only a box."""

    name: str
    box: Box
    shape: Shape | None
    crowd: bool = False


def _covers(drawn: Drawn, height: int, width: int) -> bool:
    """Return whether the object covers a pixel in a picture of that size. Raises RecordError if it lies outside."""
    x0, y0, x1, y1 = drawn.box
    if drawn.shape is None and (x1 <= x0 or y1 <= y0):
        return False
    covers = drawn.shape is None or covers_pixels(drawn.shape, height, width)
    refuse_outside(drawn.box, height, width, covers)
    return covers


@dataclass(frozen=True)
class Picture:
    """A picture and its objects."""

    path: Path
    height: int
    width: int
    objects: tuple[Drawn, ...]


@dataclass
class Gathering:
    """The pictures read so far.

    left_out: number of objects left out, by sort. note_counts: other sentences for the notes, and how often; {} in a
    sentence stands for the number. files: annotation files that were read. names: finds files with names that differ
    only in case.
    """

    source: Path
    report: Report
    pictures: list[Picture] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    files: set[Path] = field(default_factory=set)
    names: AnyCase = field(default_factory=AnyCase)
    note_counts: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def record(self, file: Path, id: int | str | None = None, where: str = "") -> Iterator[None]:
        """Report a RecordError or OSError raised inside.

        If the report returns, reading continues without the record.
        """
        try:
            yield
        except RecordError as fault:
            self.report(fault.at(file, id, where))
        except OSError as error:  # such as a name too long for the file system, or a folder without permission
            message = f"{error.filename or 'a file'!s:.200}: cannot be read ({error.strerror or error})"
            self.report(RecordError("bad-file", message, "check its name and permissions").at(file, id, where))

    def add(self, file: Path, path: Path, size: tuple[int, int], objects: Sequence[Drawn | None]) -> None:
        """Add a picture of (height, width) and its objects from `file`.

        Objects without area (and None) are reported and counted. An object outside the picture is an error.
        """
        kept = []
        for number, drawn in enumerate(objects, 1):
            with self.record(file, number, f"object {number}"):
                if drawn is not None and _covers(drawn, *size):
                    box = drawn.box if drawn.shape is None else solid_box(drawn.shape, *size)
                    kept.append(replace(drawn, box=box))
                    continue
                self.left_out["objects whose box or mask covers no pixel"] += 1
                message, remedy = f"object {number} covers no pixel", "it is left out; draw it again or remove it"
                self.report(Finding("zero-area", "warning", file, number, message, remedy))
        self.pictures.append(Picture(path, *size, tuple(kept)))

    def tell_short(self, short: Sequence[tuple[Hashable, Finding]], kept: Container[Hashable]) -> None:
        """Report polygons of fewer than three points.

        short: the object of each polygon, and its error. kept: the objects with other shapes. In these, the polygon is
        left out and counted. In others it is an error.
        """
        for key, finding in short:
            if key in kept:
                self.note_counts[SHORT] += 1
                remedy = "it is left out; remove it"
                finding = replace(finding, kind="short-polygon", severity="warning", remedy=remedy)
            self.report(finding)

    def cut_mask(
        self, file: Path, id: int | str, mask: NDArray[np.bool_], corner: tuple[int, int], size: tuple[int, int]
    ) -> Shape | None:
        """Return the part of a mask (h, w) inside a picture of (height, width), as polygons are cut; None if empty.

        corner: the column and row of the mask's first pixel. A mask that sticks out is reported and counted. Raises
        RecordError for a mask outside the picture.
        """
        (left, top), (height, width), (rows, columns) = corner, size, mask.shape
        if left >= 0 and top >= 0 and left + columns <= width and top + rows <= height:
            return run_lengths(mask, left, top)
        where = f"a mask of {columns}×{rows} pixels at ({left}, {top})"
        inside = mask[max(-top, 0) : max(height - top, 0), max(-left, 0) : max(width - left, 0)]
        if not inside.size:
            message = f"{where} lies outside {width}×{height} pixels"
            raise RecordError(
                "outside", message, "check whether it belongs to another picture, or to another size of this picture"
            )
        message = f"{where} sticks out of the picture of {width}×{height} pixels"
        self.note_counts["{} masks stick out of their pictures; they are cut at the edge"] += 1
        self.report(Finding("outside", "warning", file, id, message, "it is cut at the picture's edge; draw it again"))
        return run_lengths(inside, max(left, 0), max(top, 0))

    def measure(self, file: Path, path: Path, height: object = None, width: object = None) -> tuple[int, int]:
        """Measure a picture by the height and width that `file` states.

        Values that are no size are reported, and the size of the picture is used. If no size is stated and the picture
        has an EXIF orientation, the picture is reported and counted.
        """
        stated = stated_size(height, width)
        size = measure(path, stated)
        if stated is not None:
            self.see_turned(path)
        if stated is None and (height is not None or width is not None):
            message, remedy = no_size(height, width)
            self.note_counts[NO_SIZES] += 1
            self.report(Finding("wrong-size", "warning", file, path.name, f"{path.name}: {message}", remedy))
        if stated is None and (orientation := read_orientation(path)) != 1:
            self.note_counts[UNSURE] += 1
            self.report(unsure_which_way_up(path, None, "", orientation))
        return size

    def see_turned(self, path: Path) -> None:
        """Count a picture if its EXIF orientation turns it, and no size tells whether its objects are turned, too.

        `condinst data check` reports each such picture.
        """
        self.note_counts[SAME_SIZES] += read_header(path).may_be_turned

    def use(self, file: Path, picture: Path) -> None:
        """Mark the annotation file of one picture as read. Reports a file that another picture also uses."""
        if file in self.files:
            self.note_counts["{} pictures share their label file with another picture of the same name"] += 1
            message = f"{file.name} is also the label file of another picture with the same name"
            remedy = "rename one picture and give it a label file of its own"
            self.report(Finding("shared-labels", "warning", picture, None, message, remedy))
        self.files.add(file)

    def alone(self, files: Iterable[Path], pictures: Path) -> None:
        """Report annotation files without a picture. Without a report, their objects would vanish silently."""
        for file in files:
            self.files.add(file)  # reported here, so not counted as unread again
            message, remedy = f"no picture of this name in {pictures}", "put it there or remove the file"
            self.report(Finding("missing-picture", "error", file, None, message, remedy))

    def finish(self, classes: Sequence[str] | None = None, first_id: int = 1) -> AnnotatedData:
        """Return all pictures and objects, numbered from 1.

        classes: names in the order of their labels, with ids from `first_id`. By default, the names found, sorted.
        Raises DataError if there is no picture or no class.
        """
        if classes is None:
            classes = sorted({drawn.name for picture in self.pictures for drawn in picture.objects})
        if not classes:
            raise DataError(f"{self.source}: no object is annotated, so no class is known; annotate at least one")
        labels = {name: label for label, name in enumerate(classes)}
        samples, number = [], 0
        for image_id, picture in enumerate(self.pictures, 1):
            instances = []
            for drawn in picture.objects:
                number += 1
                instances.append(Instance(labels[drawn.name], drawn.box, drawn.shape, drawn.crowd, number))
            samples.append(Sample(picture.path, image_id, picture.width, picture.height, tuple(instances)))
        left_out = [f"{self.source}: left out {count} {what}" for what, count in sorted(self.left_out.items())]
        left_out += [
            f"{self.source}: {words.replace('{}', str(count), 1)}" for words, count in self.note_counts.items() if count
        ]
        category_ids = tuple(range(first_id, first_id + len(classes)))
        notes, files = (*self.notes, *left_out), frozenset(self.files)
        return AnnotatedData(tuple(samples), category_ids, tuple(classes), notes, self.source, files)


def list_pictures(folder: Path, deep: bool = False) -> list[Path]:
    """Return the pictures in `folder`, by name; deep: also in sub-folders. Raises DataError if it cannot be read."""
    try:
        found = list_tree(folder).files if deep else [path for path in entries(folder) if path.is_file()]
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from None
    return [path for path in found if path.suffix.lower() in SUFFIXES]


def stated_size(height: object, width: object) -> tuple[int, int] | None:
    """Return (height, width) as stated.

    Returns None if either is no size, because the picture's own size is known.
    """
    try:
        rows, columns = integer({"height": height}, "height"), integer({"width": width}, "width")
    except RecordError:
        return None
    return (rows, columns) if rows > 0 and columns > 0 else None


def no_size(height: object, width: object) -> tuple[str, str]:
    """Return the message and the remedy for a stated size that is no size."""
    return (
        f"{width!a:.20}×{height!a:.20} is not a size of a picture",
        "condinst uses the size of the picture; correct the file",
    )


def measure(path: Path, stated: tuple[int, int] | None = None) -> tuple[int, int]:
    """Return (height, width) of the picture, upright. stated: (height, width) of the annotation.

    Raises RecordError for a missing or unreadable picture, and for a size that differs from the picture's own.
    """
    try:
        size = read_size(path)
    except DataError as error:
        kind = "unreadable-picture" if path.is_file() else "missing-picture"
        raise RecordError(kind, str(error), "put the picture there or remove its annotation") from None
    if stated is None or stated == size:
        return size
    says = f"says {stated[1]}×{stated[0]}, but {path.name} has {size[1]}×{size[0]} pixels"
    orientation = read_orientation(path)
    if stated == size[::-1] and orientation in SIDEWAYS:
        raise RecordError(
            "exif-rotated",
            f"{says} upright: the annotation does not follow the EXIF orientation of the picture",
            "rotate the annotation, or remove the EXIF tag from the picture",
        )
    says += " (upright by its EXIF orientation)" if orientation > 1 else ""
    raise RecordError("wrong-size", says, "correct the record or the file")


NO_SIZES = "{} sizes are impossible; condinst uses the sizes of the pictures"
SAME_SIZES = (
    "{} pictures are rotated or mirrored by their EXIF orientation without a change of size; nothing shows whether "
    "their objects are rotated, too"
)
UNSURE = (
    "{} pictures are rotated by their EXIF orientation; no stated size shows whether their objects are rotated, too"
)


def unsure_which_way_up(file: Path, id: int | str | None, where: str, orientation: int) -> Finding:
    """Return the warning for a picture with an EXIF orientation, if the annotation states no size."""
    message = (
        f"is rotated by its EXIF orientation {orientation}; no stated size shows whether its objects are rotated, too"
    )
    remedy = "check the positions of the objects, then save the picture upright"
    return Finding("exif-rotated", "warning", file, id, f"{where}: {message}" if where else message, remedy)


def read_lines(file: Path) -> list[str]:
    """Return the non-blank lines; any system's line ends are accepted. Raises RecordError if the file is no text."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise RecordError("bad-file", f"cannot be read ({error.strerror})", "check its permissions") from None
    except UnicodeDecodeError as error:
        raise RecordError("bad-file", f"not UTF-8 text ({error.reason})", "write it again") from None
    return [line.strip() for line in lines if line.strip()]


def read_list(file: Path) -> list[str]:
    """Return the lines of a list of names, such as classes or pictures.

    Raises DataError if there are no names or a name comes twice.
    """
    try:
        names = read_lines(file)
    except RecordError as error:
        raise DataError(str(error.at(file, None))) from None
    if not names:
        raise DataError(f"{file}: empty; write a name on each line")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{file}: {twice[0]:.60} is listed twice; write each name once")
    return names


def check_name(name: object, where: str) -> str:
    """Return a class name that any file and terminal accepts."""
    if not isinstance(name, str) or not name.strip():
        raise RecordError("bad-record", f"{where} must be the name of a class, got {name!a:.40}", "name the class")
    if len(name) > LONGEST_NAME:
        raise RecordError("bad-record", f"{where} is a name of {len(name):,} characters, {name!a:.40}…", "shorten it")
    return printable(name, where, "rename it")

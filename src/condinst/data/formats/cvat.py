"""CVAT for images 1.1: one XML file for all pictures. Shapes of one label and one group are one object."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError
from xml.parsers import expat

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse
from numpy.typing import NDArray

from condinst.data.findings import Finding, RecordError, Report
from condinst.data.formats.gather import Drawn, Gathering, check_name
from condinst.data.formats.records import CORRECT, LARGEST_COORDINATE, printable
from condinst.data.formats.splits import WHOLE, Part, Parts, name_subsets, split_named
from condinst.data.pictures.listing import AnyCase, files_in
from condinst.data.sample import AnnotatedData, Box, Polygons
from condinst.data.shapes import Shape, ShortPolygonError, ellipse, filled, join, polygon
from condinst.errors import DataError

HEAD = 4096  # the bytes that name the root element
LARGER = 4  # times the pixels of its picture that a mask may have: it may stick out, but not fill the memory
WITHOUT_AREA = ("polyline", "points", "cuboid", "skeleton", "tag")


def find(data: Path) -> Parts:
    """Return the subsets at `data`, an XML file or a folder with one, beside its pictures or their folder images/."""
    files = files_in(data, ".xml") if data.is_dir() else [data] * (data.suffix.lower() == ".xml")
    files = [file for file in files if is_cvat(file)]
    if len(files) > 1:
        raise DataError(f"{data}: holds {', '.join(file.name for file in files)}; name one of these files instead")
    if not files:
        return {}
    document = _Document(files[0])
    present = {subset for subset, _ in document.listed}
    subsets: dict[str, str | None] = {**name_subsets(present)} if any(map(split_named, present)) else {WHOLE: None}
    return {
        name: Part(partial(document.read, subset), partial(document.claims, subset)) for name, subset in subsets.items()
    }


def is_cvat(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            # without zeros, ASCII text in UTF-16 is ASCII
            return re.search(rb"<annotations[\s>]", stream.read(HEAD).replace(b"\0", b"")) is not None
    except OSError:
        return False


def _listed(file: Path) -> list[tuple[str, str]]:
    """Return (subset, name) of each picture, up to invalid XML or a document type.

    `_parse` reports such problems. The export of a project names subsets.
    """
    found: list[tuple[str, str]] = []

    def start(tag: str, values: dict[str, str]) -> None:
        if tag == "image":
            found.append((values.get("subset", ""), values.get("name", "")))

    def refuse(*_: object) -> None:
        raise ValueError("a document type")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.StartDoctypeDeclHandler = start, refuse
    with suppress(expat.ExpatError, ValueError, LookupError, OSError), file.open("rb") as stream:
        parser.ParseFile(stream)
    return found


class _Subset:
    """The pictures read of one subset, or of the whole file, and the findings about them."""

    def __init__(self, file: Path) -> None:
        self.findings: list[Finding] = []
        self.gathering = Gathering(file, self.findings.append, files={file})


class _Parsed(NamedTuple):
    """labels: the findings about the labels of all subsets. error: why the file could not be read to its end."""

    subsets: dict[str | None, _Subset]
    labels: _Subset
    classes: list[str]
    error: DataError | None


class _Document:
    """An XML file of one or several subsets. The file is parsed once for all of them."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._parsed: dict[Path | None, _Parsed] = {}

    @cached_property
    def listed(self) -> list[tuple[str, str]]:
        """The (subset, name) of each picture."""
        return _listed(self.file)

    def claims(self, subset: str | None, images: Path | None) -> list[Path]:
        """Return the file and its pictures."""
        names = AnyCase()
        chosen = ((of, name) for of, name in self.listed if subset in (None, of))
        return [self.file, *(_picture(name, of, self.file, images, names) for of, name in chosen)]

    def read(self, subset: str | None, images: Path | None, report: Report) -> AnnotatedData:
        """Read one subset, or the whole file (None)."""
        if images not in self._parsed:
            self._parsed[images] = _parse(self.file, images, divided=subset is not None)
        subsets, labels, classes, error = self._parsed[images]
        chosen = subsets.get(subset) or _Subset(self.file)
        for finding in (*labels.findings, *chosen.findings):
            report(finding)
        if error is not None:
            raise error
        chosen.gathering.pictures.sort(key=lambda picture: picture.path)
        return chosen.gathering.finish(list(dict.fromkeys(classes)) or None)


def _parse(file: Path, images: Path | None, divided: bool) -> _Parsed:
    """Read all pictures. divided: keep the subsets apart."""
    subsets: dict[str | None, _Subset] = {}
    classes: list[str] = []
    numbers = 0
    labels = _Subset(file)
    try:
        for element in _elements(file):
            if element.tag == "label":
                with labels.gathering.record(file, where="<labels>"):
                    classes.append(check_name(element.findtext("name"), "the name of a label"))
            elif element.tag == "track":
                raise DataError(f"{file}: CVAT for video; export the task as 'CVAT for images 1.1'")
            elif element.tag == "image":
                numbers += 1
                subset = subsets.setdefault(element.get("subset", "") if divided else None, _Subset(file))
                name = element.get("name", "")
                with subset.gathering.record(file, name or numbers, f"image {name or numbers}"):
                    _read_image(element, file, images, classes, subset.gathering)
        if not numbers:
            raise DataError(f"{file}: no <image>; export the task as 'CVAT for images 1.1'")
    except DataError as error:
        return _Parsed(subsets, labels, classes, error)
    return _Parsed(subsets, labels, classes, None)


def _elements(file: Path) -> Iterator[Element]:
    """Return labels, tracks and images as complete elements, one at a time. The file is never in memory as a whole."""
    try:
        root: Element | None = None
        for event, element in iterparse(str(file), events=("start", "end"), forbid_dtd=True):
            if root is None:
                root = element
            if event == "end" and element.tag in ("label", "track", "image"):
                yield element
                if element.tag != "label":
                    root.clear()
    except DefusedXmlException:
        raise DataError(
            f"{file}: has a document type or entities; condinst does not read them, so remove them"
        ) from None
    except ParseError as error:
        raise DataError(f"{file}: not valid XML ({error}); export it again") from None
    except (OSError, ValueError, LookupError) as error:  # an unknown encoding is a LookupError
        raise DataError(f"{file}: cannot be read ({error})") from None


def _read_image(element: Element, file: Path, images: Path | None, classes: list[str], gathering: Gathering) -> None:
    name = printable(element.get("name") or "", "'name' of an <image>", "rename the picture")
    if not name:
        raise RecordError("bad-record", "an <image> has no 'name'", "export the task again")
    path = _picture(name, element.get("subset", ""), file, images, gathering.names)
    height, width = gathering.measure(file, path, element.get("height"), element.get("width"))
    groups: dict[tuple[str, str], list[Shape | Box | None]] = {}
    short: list[tuple[tuple[str, str], Finding]] = []
    for index, child in enumerate(element):
        if child.tag in WITHOUT_AREA:
            gathering.left_out[f"shapes of the type {child.tag}, because they have no area"] += 1
            continue
        where = f"image {name}: {child.tag} {index}"
        with gathering.record(file, f"{name}#{index}", where):
            label = _label(child, classes)
            group = child.get("group_id") or "0"
            key = (label, f"shape {index}" if group == "0" else f"group {group}")
            if child.tag == "mask":
                mask, corner = _read_mask(child, height * width)
                shape: Shape | Box | None = gathering.cut_mask(file, f"{name}#{index}", mask, corner, (height, width))
            else:
                try:
                    shape = _read_shape(child)
                except ShortPolygonError as error:
                    short.append((key, error.at(file, f"{name}#{index}", where)))
                    continue
            groups.setdefault(key, []).append(shape)
    gathering.tell_short(short, groups)
    joined = [(label, join(members, height, width)) for (label, _), members in groups.items()]
    objects = [None if drawn is None else Drawn(label, *drawn) for label, drawn in joined]
    gathering.add(file, path, (height, width), objects)


def _picture(name: str, subset: str, file: Path, images: Path | None, names: AnyCase) -> Path:
    """The file of a picture, in images/SUBSET/, images/ or beside the XML file; a path in images/ if no file is there.

    Names of CVAT are relative. A name or subset that leads out of these folders (`..`, `/`) is read as its part inside.
    """
    subset = _inside(subset)
    folders = [images] if images else [file.parent / "images" / subset, file.parent / "images", file.parent]
    name = _inside(name)
    written = dict.fromkeys((name, _inside(PureWindowsPath(name).as_posix())))  # on Windows, a path has backslashes
    places = (names.find(folder / each) for folder in folders for each in written)
    found = next((place for place in places if place is not None and place.is_file()), None)
    return found or folders[0] / name


def _inside(path: str) -> str:
    """`path` without its root and without `..`."""
    return "/".join(part for part in PurePosixPath(path).parts if part not in ("/", "//", ".."))


def _label(element: Element, classes: list[str]) -> str:
    label = check_name(element.get("label"), "'label'")
    if classes and label not in classes:
        message = f"label '{label}' is not among the file's labels"
        raise RecordError("unknown-category", message, "add it to <labels> or remove the shape")
    return label


def _number(element: Element, key: str) -> float:
    text = element.get(key)
    try:
        value = float(text or "")
    except ValueError:
        value = float("nan")
    if not abs(value) <= LARGEST_COORDINATE:
        raise RecordError("bad-record", f"'{key}' must be a finite number of pixels, got {text!a:.40}", CORRECT)
    return value


def _read_shape(element: Element) -> Shape | Box:
    """Return one object that is no mask. A box without rotation stays a box."""
    if element.tag == "polygon":
        return polygon(_read_points(element.get("points", "")))
    if element.tag == "ellipse":
        centre, radii = (
            (_number(element, "cx"), _number(element, "cy")),
            (_number(element, "rx"), _number(element, "ry")),
        )
        return ellipse(centre, radii, _turn(element))
    if element.tag == "box":
        x0, y0, x1, y1 = (_number(element, key) for key in ("xtl", "ytl", "xbr", "ybr"))
        return _turned((x0, y0, x1, y1), _turn(element)) if _turn(element) else (x0, y0, x1, y1)
    raise RecordError("bad-record", "not a shape of CVAT for images 1.1", "remove it")


def _turn(element: Element) -> float:
    return _number(element, "rotation") if element.get("rotation") else 0.0


def _turned(box: Box, degrees: float) -> Polygons:
    """Return the four corners, turned clockwise on the screen about the centre of the box."""
    (corners,) = filled(box).parts
    centre, turn = corners.mean(0), np.deg2rad(degrees)
    cosine, sine = np.cos(turn), np.sin(turn)
    return Polygons(((corners - centre) @ np.array([[cosine, sine], [-sine, cosine]]) + centre,))


def _read_points(text: str) -> list[list[float]]:
    """Parse x,y;x,y;…"""
    try:
        points = [[float(number) for number in pair.split(",")] for pair in text.split(";") if pair.strip()]
    except ValueError:
        points = [[]]
    if any(len(pair) != 2 or not all(abs(number) <= LARGEST_COORDINATE for number in pair) for pair in points):
        raise RecordError("bad-record", f"'points' must be x,y;x,y;…, got {text!a:.60}", CORRECT)
    return points


def _read_mask(element: Element, max_pixels: int) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """Return a mask (h, w) and its left and top. The file holds its runs, row by row: empty, filled, empty …"""
    left, top, columns, rows = (int(_number(element, key)) for key in ("left", "top", "width", "height"))
    if columns < 1 or rows < 1 or columns * rows > LARGER * max_pixels:
        message = f"a mask of {columns}×{rows} pixels does not fit a picture of {max_pixels:,} pixels"
        raise RecordError("outside", message, CORRECT)
    text = element.get("rle", "")
    try:
        runs = np.array([int(run) for run in text.split(",")], dtype=np.int64)
    except (ValueError, OverflowError):
        raise RecordError("bad-record", f"'rle' must be whole numbers, got {text!a:.60}", CORRECT) from None
    if (runs < 0).any() or (runs > rows * columns).any() or runs.sum() != rows * columns:
        raise RecordError("bad-record", f"the runs of 'rle' do not sum to {columns}×{rows} pixels", CORRECT)
    mask = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(rows, columns)
    return mask, (left, top)

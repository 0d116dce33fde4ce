"""YOLO segmentation: data.yaml, pictures in …/images/…, and a text file for each in …/labels/…, one row per object.

A row is a class number and a polygon, or a class number and a box (centre, width, height), in parts of the picture's
size. Other converters join the rings of an object by cuts. condinst separates such rings again.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from condinst.data.findings import RecordError, Report
from condinst.data.formats.gather import Drawn, Gathering, check_name, list_pictures, measure, read_lines
from condinst.data.formats.splits import Part, Parts, name_subsets
from condinst.data.formats.yolo.places import leads_out, locate, roots
from condinst.data.formats.yolo.places import place as find_place
from condinst.data.pictures.image import SUFFIXES
from condinst.data.pictures.listing import AnyCase, child, files_in, same_case
from condinst.data.sample import AnnotatedData, Polygons
from condinst.data.shapes import bound_outline, box_of
from condinst.errors import DataError, UsageError
from condinst.ops.bitmaps.bridges import unbridge
from condinst.ops.bitmaps.rle import draw_polygons
from condinst.safe_yaml import LARGEST_FILE, read_yaml

ENDINGS = (".yaml", ".yml")
LISTED = SUFFIXES | {".txt"}  # files that a data.yaml may name: pictures and lists of pictures
FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
NOT_SUBSETS = frozenset(  # keys of a data.yaml that name no pictures
    {"author", "channels", "colors", "date", "depth", "description", "download", "flip_idx", "kpt_shape", "license",
     "links", "names", "nc", "path", "roboflow", "stride", "task", "url", "version", "yaml_file"}
)  # fmt: skip
NOT_LABELS = frozenset({"classes"})  # labelImg lists the names of classes in classes.txt among the labels
DECIMALS = 6  # of a pixel
ROUNDING = 0.01  # coordinates outside [0, 1] by more than this are not in parts of the picture's size


def find(data: Path) -> Parts:
    """Return the subsets at `data`, a data.yaml or its folder."""
    files = [child(data, name) for name in FILES] if data.is_dir() else [data] * (data.suffix.lower() in ENDINGS)
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        return {}
    document = _load(file)
    subsets = name_subsets(key for key in document if isinstance(key, str) and _is_subset(document, key, file))
    root = roots(document, file)[0]
    return {
        name: Part(partial(_read, file, key), partial(_claims, document, key, file), root)
        for name, key in subsets.items()
    }


def find_lone(data: Path) -> Parts:
    """Return the only file in the folder `data` that reads like a data.yaml, with any name."""
    files = [file for file in files_in(data, *ENDINGS) if is_data_yaml(file)]
    return find(files[0]) if len(files) == 1 else {}


def is_data_yaml(file: Path) -> bool:
    """Return whether a YAML file looks like a data.yaml."""
    try:
        small = file.stat().st_size < LARGEST_FILE
        return small and re.search(rb"^[\"']?names[\"']?\s*:", file.read_bytes(), re.M) is not None
    except OSError:
        return False


def _is_subset(document: dict[str, Any], key: str, file: Path) -> bool:
    """Return whether a key of data.yaml names pictures: train and val always, any other key if its value exists."""
    if key in NOT_SUBSETS or not document[key]:
        return False
    if key in ("train", "val"):
        return True
    listed = document[key] if isinstance(document[key], list) else [document[key]]
    entries = [entry for entry in listed if isinstance(entry, str)]
    places = [locate(entry, document, file, AnyCase()) for entry in entries]
    return any(place is not None and (place.is_dir() or place.suffix.lower() in LISTED) for place in places)


def _claims(document: dict[str, Any], key: str, file: Path, _: Path | None) -> list[Path]:
    """Return the existing pictures of a subset and their label files."""
    unheard = Gathering(file, lambda finding: None)
    try:
        pictures = _pictures(document, key, file, unheard)
    except DataError:
        return []
    return [*pictures, *(label_path(path, unheard.names) for path in pictures), *unheard.files]


def _read(file: Path, split: str, images: Path | None, report: Report) -> AnnotatedData:
    if images is not None:
        raise UsageError(f"--images: {file} states the places of its pictures; change them there")
    document = _load(file)
    gathering = Gathering(file, report)
    names = _read_names(document, file)
    pictures = _pictures(document, split, file, gathering)
    gathering.files.add(file)
    if split == "train" and document.get("test") and not _is_subset(document, "test", file):
        gathering.notes.append(f"{file}: left out 'test', because {document['test']!s:.80} does not exist")
    unlabelled = 0
    for path in pictures:
        label = label_path(path, gathering.names)
        unlabelled += not label.is_file()
        with gathering.record(label if label.is_file() else path):
            _read_picture(path, label, names, gathering)
    if unlabelled == len(pictures):
        expected = label_path(pictures[0], gathering.names)
        raise DataError(f"{file}: none of the {unlabelled} pictures of {split} has a label file; expected {expected}")
    for labels, folder in {label_path(path, gathering.names).parent: path.parent for path in pictures}.items():
        gathering.alone(_labels_alone(labels, folder), folder)
    if unlabelled:
        gathering.notes.append(f"{file}: {unlabelled} pictures of {split} have no label file, so they have no objects")
    # ids are the class numbers of the rows; a number that data.yaml skips would have no name
    return gathering.finish([names[number] for number in sorted(names)], first_id=0)


def label_path(picture: Path, names: AnyCase) -> Path:
    """Return the label file of a picture: the last folder `images` of its path becomes `labels`. `names` finds
    the file if letters are of another case."""
    parts = list(picture.parts)
    for index in reversed(range(len(parts) - 1)):
        if parts[index].lower() == "images":
            parts[index] = "labels"
            break
    expected = Path(*parts).with_suffix(".txt")
    return names.find(expected) or expected


def _labels_alone(labels: Path, folder: Path) -> list[Path]:
    """Label files whose picture is not in `folder`, whether a split uses it or not; none where both lie in one folder,
    as a text there may be anything."""
    if labels == folder or not labels.is_dir():
        return []
    known = {same_case(path.stem) for path in list_pictures(folder)} | NOT_LABELS
    return [file for file in files_in(labels, ".txt") if same_case(file.stem) not in known]


def _load(file: Path) -> dict[str, Any]:
    try:
        document = read_yaml(file)
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise DataError(f"{file}: not valid YAML ({error}); correct it, and save it as UTF-8") from None
    if not isinstance(document, dict) or "names" not in document:
        raise DataError(f"{file}: no 'names'; a data.yaml has names of classes and the folders train and val")
    if "kpt_shape" in document:
        raise DataError(f"{file}: describes key points (kpt_shape), not outlines of objects")
    return document


def _read_names(document: dict[str, Any], file: Path) -> dict[int, str]:
    """Return class number → name, numbered from 0 without a gap."""
    listed = document["names"]
    pairs = dict(enumerate(listed)) if isinstance(listed, list) else listed
    if not isinstance(pairs, dict) or not pairs:
        raise DataError(f"{file}: 'names' must list the classes, got {listed!a:.60}; name them")
    names: dict[int, str] = {}
    for key, name in pairs.items():
        number = int(key) if isinstance(key, str) and key.isdecimal() and len(key) < 10 else key
        if isinstance(name, bool) or name is None or isinstance(name, float):  # YAML reads no, ~ and 1.0 as these
            raise DataError(f"{file}: names: class {number!a:.20} is read as {name!a}; put its name in quotes")
        if type(number) is not int:
            raise DataError(f"{file}: names: {number!a:.40} is no class number; count from 0")
        if number in names:
            raise DataError(f"{file}: names: class {number} is listed twice; keep one of them")
        try:
            names[number] = check_name(str(name) if isinstance(name, int) else name, f"names[{number}]")
        except RecordError as error:
            raise DataError(f"{file}: {error.message}; {error.remedy}") from None
    if sorted(names) != list(range(len(names))):
        message = f"classes must be numbered from 0 without a gap, got {sorted(names)!s:.60}"
        raise DataError(f"{file}: names: {message}; add the missing names")
    if type(document.get("nc")) is int and document["nc"] != len(names):
        message = f"'nc' says {document['nc']} classes, but 'names' has {len(names)}"
        raise DataError(f"{file}: {message}; correct one of them")
    if len(set(names.values())) < len(names):
        raise DataError(f"{file}: 'names' gives two classes the same name; rename or merge them")
    return names


def _pictures(document: dict[str, Any], split: str, file: Path, gathering: Gathering) -> list[Path]:
    """Return the pictures of a split: of folders, of lists (.txt), or of several of these."""
    pictures: dict[Path, None] = {}
    for entry in _entries(document, split, file):
        starts = roots(document, file)
        place = locate(entry, document, file, gathering.names)
        if place is None:
            looked = ", ".join(str(start / entry) for start in starts)
            remedy = f"correct it or put it there; looked for {looked}"
            raise DataError(f"{file}: '{split}' names {entry}, but it does not exist; {remedy}")
        gathering.notes += _told_place(entry, split, place, file, starts, gathering.names)
        pictures.update(dict.fromkeys(_expand(place, starts, f"{file}: '{split}'", gathering)))
    if not pictures:
        raise DataError(f"{file}: '{split}' has no pictures in {document[split]!a:.80}; put some there or correct it")
    return sorted(pictures)


def _told_place(entry: str, split: str, place: Path, file: Path, starts: Sequence[Path], names: AnyCase) -> list[str]:
    """Return a note if a subset is read from another place than its path says, or from outside the file's folder."""
    if leads_out(entry, place, file.parent):
        return [f"{file}: '{split}' is read from {os.path.abspath(place)}, outside the folder of {file.name}"]
    stated = next((found for start in starts if (found := names.find(start / entry))), None)
    if stated is None or stated.samefile(place):
        return []
    return [f"{file}: '{split}' is read from {place}, not from {os.path.abspath(stated)}, although that exists, too"]


def _entries(document: dict[str, Any], split: str, file: Path) -> list[str]:
    listed = document[split]
    entries = listed if isinstance(listed, list) else [listed]
    for entry in entries:
        if not isinstance(entry, str):
            raise DataError(f"{file}: '{split}' must name folders or lists of pictures, got {entry!a:.60}; correct it")
    return entries


def _expand(place: Path, starts: list[Path], where: str, gathering: Gathering) -> list[Path]:
    if place.is_dir():
        return list_pictures(place, deep=True)
    if place.suffix.lower() == ".txt":
        return _read_list(place, [place.parent, *starts], gathering)
    if place.suffix.lower() in SUFFIXES:
        return [place]
    message = "but it is not a folder, a list of pictures (.txt) or a picture"
    raise DataError(f"{where} names {place}, {message}; name one of these")


def _read_list(file: Path, starts: list[Path], gathering: Gathering) -> list[Path]:
    """Return the pictures that a list names, one per line."""
    found: dict[Path, str] = {}
    gathering.files.add(file)
    with gathering.record(file):
        for number, line in enumerate(read_lines(file), 1):
            with gathering.record(file, number, f"line {number}"):
                path = find_place(line, starts, gathering.names)
                if path is None or not path.is_file():
                    raise RecordError("missing-picture", f"lists {line:.200}, but it does not exist", "put it there")
                if found.setdefault(path, line) != line:
                    message = f"lists {line:.200} as well as {found[path]:.200}, but only {path} exists"
                    raise RecordError("missing-picture", message, "give paths relative to the folder of the list")
    return list(found)


def _read_picture(path: Path, label: Path, names: dict[int, str], gathering: Gathering) -> None:
    height, width = gathering.measure(label, path) if label.is_file() else measure(path)
    objects = []
    for number, row in enumerate(read_lines(label) if label.is_file() else [], 1):
        with gathering.record(label, number, f"row {number}"):
            objects.append(_read_row(row.split(), names, height, width))
    if label.is_file():
        gathering.use(label, path)
    gathering.add(label, path, (height, width), objects)


def _read_row(words: list[str], names: dict[int, str], height: int, width: int) -> Drawn:
    try:
        number, *values = map(float, words)
    except ValueError:
        raise RecordError(
            "bad-record", f"has values that are not numbers: {' '.join(words)!a:.60}", "correct it"
        ) from None
    if number not in names:
        known = f"data.yaml names 0 to {len(names) - 1}"
        raise RecordError("unknown-category", f"class {words[0]:.20}, but {known}", "correct the row or add the class")
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        message = f"{len(values)} coordinates; a polygon has pairs of 3 points or more, a box 4 numbers"
        raise RecordError("bad-record", message, "correct it")
    points = np.array(_corners(values) if len(values) == 4 else values, dtype=np.float64).reshape(-1, 2)
    if not ((points >= -ROUNDING) & (points <= 1 + ROUNDING)).all():  # NaN fails both comparisons
        worst = values[int(np.nanargmax(np.abs(np.array(values) - 0.5)))] if not math.isnan(sum(values)) else math.nan
        message = f"coordinate {worst:g} is outside the picture"
        raise RecordError("outside", message, "coordinates are parts of the picture's width and height, from 0 to 1")
    # COCO's drawing rule rounds, so a vertex moved by the smallest bit may add a row of pixels
    points = np.round(points * (width, height), DECIMALS)
    if len(values) == 4:
        (left, top), (right, bottom) = points.tolist()
        return Drawn(names[int(number)], (left, top, right, bottom), None)
    shape = _take_apart(points, height, width)
    return Drawn(names[int(number)], box_of(shape), shape)


def _corners(values: list[float]) -> list[float]:
    x, y, width, height = values
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def _take_apart(points: np.ndarray[Any, np.dtype[np.float64]], height: int, width: int) -> Polygons:
    """Return the parts that cuts join. Return the ring itself if one part is a hole, which a union cannot describe."""
    bound_outline([points], height, width)
    rings = unbridge(points)
    if len(rings) > 1 and draw_polygons(rings, height, width) == draw_polygons([points], height, width):
        return Polygons(tuple(rings))
    return Polygons((points,))

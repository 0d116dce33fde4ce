"""labelme: a JSON file of shapes beside each picture. Shapes of one class and one group_id are one object."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from condinst.data.findings import Finding, RecordError, Report
from condinst.data.formats.gather import Drawn, Gathering, check_name
from condinst.data.formats.labelme.picture import find_picture
from condinst.data.formats.masks.label_picture import read_numbers
from condinst.data.formats.records import CORRECT, Record, coordinates, kind, load_json
from condinst.data.formats.splits import WHOLE, Part, Parts, contains, split_named
from condinst.data.pictures.embedded import may_embed
from condinst.data.pictures.listing import files_in, list_tree, subfolders
from condinst.data.sample import AnnotatedData, Box, Polygons
from condinst.data.shapes import Shape, ShortPolygonError, box_of, ellipse, join, polygon

WITHOUT_AREA = ("line", "linestrip", "point", "points")
LARGER = 4  # times the pixels of its picture that a mask may have: it may stick out, but not fill the memory
CROWD = "crowd"  # `condinst data convert` sets this flag on shapes for a region of several objects


def find(data: Path) -> Parts:
    """Return the subsets at `data`, a folder of labelme files at any depth, or one labelme file.

    A folder with all its files in subsets, such as train/ and val/, is left to `open`, and `open` finds each subset.
    """
    whole: Parts = {WHOLE: Part(partial(_read, data), lambda _: [data])}
    if data.is_file():
        return whole if data.suffix.lower() == ".json" and is_labelme(data) else {}
    if any(map(is_labelme, files_in(data, ".json"))):
        return whole
    subsets = [folder for folder in subfolders(data) if split_named(folder.name)]
    if any(map(is_labelme, _below(subsets))):
        return {}
    # settings and lists of classes may lie beside the annotations
    return whole if any(map(is_labelme, _files(data))) else {}


def is_labelme(file: Path) -> bool:
    """Return whether a JSON file looks like labelme."""
    annotations, shapes = contains(file, b'"annotations"', b'"shapes"')
    return shapes and not annotations


def _files(folder: Path) -> list[Path]:
    """Return JSON files in the folder and in its sub-folders, except files in folders named as splits."""
    return files_in(folder, ".json") + _below(path for path in subfolders(folder) if not split_named(path.name))


def _below(folders: Iterable[Path]) -> list[Path]:
    """Return JSON files at any depth."""
    return [file for folder in folders for file in list_tree(folder).files if file.suffix.lower() == ".json"]


def _read(data: Path, images: Path | None, report: Report) -> AnnotatedData:
    gathering = Gathering(data, report)
    files = [data] if data.is_file() else _files(data)
    for file in files:
        with gathering.record(file):
            _read_file(file, images, gathering)
    if inside := sum(may_embed(picture.path) for picture in gathering.pictures):
        gathering.notes.append(
            f"{data}: {inside} pictures are read from imageData in their JSON files, because there are no picture files"
        )
    return gathering.finish()


def _read_file(file: Path, images: Path | None, gathering: Gathering) -> None:
    gathering.files.add(file)
    document = _load(file)
    path = find_picture(document, file, images, gathering)
    height, width = gathering.measure(file, path, document.get("imageHeight"), document.get("imageWidth"))
    shapes = document.get("shapes")
    if not isinstance(shapes, list):
        raise RecordError("bad-record", f"'shapes' must be a list, got {kind(shapes)}", "write it again in labelme")
    groups: dict[Any, list[tuple[Record, Shape | Box | None]]] = {}
    short: list[tuple[Any, Finding]] = []
    for index, record in enumerate(shapes):
        with gathering.record(file, index, f"shapes[{index}]"):
            if not isinstance(record, dict):
                raise RecordError("bad-record", f"must be an object, got {kind(record)}", CORRECT)
            sort = record.get("shape_type") or "polygon"
            if sort in WITHOUT_AREA:
                gathering.left_out[f"shapes of the type {sort}, because they have no area"] += 1
                continue
            group = _group(record, index, check_name(record.get("label"), "'label'"))
            if sort == "mask" or (sort == "rectangle" and isinstance(record.get("mask"), str)):
                shape: Shape | Box | None = _read_mask(record, index, (height, width), file, gathering)
            else:
                try:
                    shape = _read_shape(record, sort)
                except ShortPolygonError as error:
                    short.append((group, error.at(file, index, f"shapes[{index}]")))
                    continue
            groups.setdefault(group, []).append((record, shape))
    gathering.tell_short(short, groups)
    objects = [_join(name, members, height, width) for (name, _), members in groups.items()]
    gathering.add(file, path, (height, width), objects)


def _load(file: Path) -> Record:
    document = load_json(file, "write it again in labelme or remove it")
    if not isinstance(document, dict) or "shapes" not in document:
        raise RecordError("bad-file", "no labelme file: it has no 'shapes'", "move it out of the folder")
    return document


def _group(record: Record, index: int, name: str) -> tuple[str, str]:
    """Return the class and the key of the object."""
    group = record.get("group_id")
    if group == "":  # some programs write this value for no group
        group = None
    if type(group) is float and group.is_integer():  # tables write numbers this way, and the numbers may be missing
        group = int(group)
    if group is not None and type(group) not in (int, str):
        raise RecordError("bad-record", f"'group_id' must be a number or null, got {kind(group)}", CORRECT)
    return name, f"shape {index}" if group is None else f"group {group}"


def _read_shape(record: Record, sort: Any) -> Shape | Box | None:
    """Return one shape. A rectangle is a box. None: a circle without a radius."""
    points = _points(record)
    if sort in ("polygon", "rotation"):
        return polygon(points)
    if sort == "rectangle" and len(points) in (2, 4):
        return box_of(Polygons((points,)))
    if sort == "circle" and len(points) == 2:
        (x, y), (edge_x, edge_y) = points.tolist()
        radius = ((edge_x - x) ** 2 + (edge_y - y) ** 2) ** 0.5
        return ellipse((x, y), (radius, radius)) if radius else None
    if sort in ("rectangle", "circle"):
        raise RecordError("bad-record", f"a {sort} has 2 points, got {len(points)}", CORRECT)
    raise RecordError("bad-record", f"shape_type {sort!a:.40} is not known", "use polygon, rectangle, circle or mask")


def _points(record: Record) -> NDArray[np.float64]:
    """Return the points, (P, 2)."""
    points = record.get("points")
    if not isinstance(points, list) or not all(isinstance(point, list) and len(point) == 2 for point in points):
        raise RecordError("bad-record", f"'points' must be a list of [x, y], got {points!a:.60}", CORRECT)
    return coordinates([number for point in points for number in point], "points").reshape(-1, 2)


def _read_mask(record: Record, index: int, size: tuple[int, int], file: Path, gathering: Gathering) -> Shape | None:
    """Decode a PNG in base64, from the first point to the last, both included, on a picture of (height, width) pixels.

    If the points give another size than the mask, the size of the mask is used and the difference is reported. A mask
    of the picture's own size lies over the whole picture. A mask that sticks out is cut. Raises RecordError for a
    damaged mask, and for a mask outside the picture.
    """
    height, width = size
    points = _points(record)
    if len(points) != 2:
        raise RecordError("bad-record", f"a mask has 2 points, got {len(points)}", CORRECT)
    mask = _decode_mask(record.get("mask"), LARGER * height * width)
    rows, columns = mask.shape
    left, top = (round(value) for value in points.min(axis=0))
    # some tools write the corner behind the last pixel
    stated = points.max(axis=0) - (left, top) + 1
    fits = all(abs(round(a) - b) <= 1 for a, b in zip(stated, (columns, rows), strict=True))
    if not fits and mask.shape == size:
        left, top = 0, 0
    if not fits:
        message = f"a mask of {columns}×{rows} pixels does not fit its points {points.tolist()}"
        remedy = f"condinst places the mask at ({left}, {top}); correct its points"
        gathering.note_counts["{} masks do not fit their points; condinst uses the masks"] += 1
        gathering.report(Finding("box-mismatch", "warning", file, None, message, remedy))
    return gathering.cut_mask(file, index, mask, (left, top), size)


def _decode_mask(content: object, max_pixels: int) -> NDArray[np.bool_]:
    """Return the mask, (H, W). Raises RecordError if the value is no mask."""
    if not isinstance(content, str):
        raise RecordError("bad-record", f"'mask' must be a PNG in base64, got {kind(content)}", CORRECT)
    try:
        png = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RecordError("bad-record", f"'mask' is not base64 ({error})", CORRECT) from None
    mask: NDArray[np.bool_] = read_numbers(png, "its mask", max_pixels) > 0
    return mask


def _join(name: str, members: list[tuple[Record, Shape | Box | None]], height: int, width: int) -> Drawn | None:
    """Join the shapes of a group into one object."""
    crowd = any(isinstance(record.get("flags"), dict) and record["flags"].get(CROWD) is True for record, _ in members)
    drawn = join([shape for _, shape in members], height, width)
    return None if drawn is None else Drawn(name, *drawn, crowd)

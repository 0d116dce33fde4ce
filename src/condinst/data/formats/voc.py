"""Pascal VOC: JPEGImages/, SegmentationObject/ with a number for each object, SegmentationClass/ with class numbers.

The class of an object is the class of most of its pixels. 255 is void: condinst leaves out void pixels.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from condinst.data.findings import RecordError, Report
from condinst.data.formats.gather import Drawn, Gathering, check_name, list_pictures, measure, read_lines, read_list
from condinst.data.formats.masks.label_picture import Piece, cut_pieces, read_numbers
from condinst.data.formats.masks.paired import name_in
from condinst.data.formats.splits import SPLITS, WHOLE, Part, Parts, name_subsets, split_named
from condinst.data.pictures.image import MAX_PIXELS, SUFFIXES
from condinst.data.pictures.listing import AnyCase, child, files_in
from condinst.data.pictures.picture_file import opened
from condinst.data.sample import AnnotatedData, RunLengths
from condinst.data.shapes import box_of
from condinst.errors import DataError

PICTURES, OBJECTS, CLASSES = "JPEGImages", "SegmentationObject", "SegmentationClass"
LABEL_MAP, NAMES = "labelmap.txt", "class_names.txt"
LISTS = Path("ImageSets") / "Segmentation"
COLOUR = re.compile("[0-9]{1,3}")
VOID, VOID_COLOUR = 255, 224 * 65536 + 224 * 256 + 192
BACKGROUND = ("background", "_background_", "__background__")
OWN_NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


class Names(NamedTuple):
    """The meaning of a pixel of SegmentationClass: by its number in a palette picture, and by its colour otherwise.

    The background has an empty name if a label map gives it a colour. by_number: None if a label map gives colours
    only; the picture's palette then maps numbers to colours.
    """

    by_number: dict[int, str] | None
    by_colour: dict[int, str]


def find(data: Path) -> Parts:
    """Return the subsets in `data`, a folder like VOC2012."""
    if not child(data, OBJECTS).is_dir():
        return {}
    lists = {file.stem: file for file in files_in(AnyCase().find(data / LISTS) or data / LISTS, ".txt")}
    chosen: dict[str, Path | None] = {WHOLE: None}
    if any(map(split_named, lists)):
        chosen = {name: lists[stem] for name, stem in name_subsets(lists).items()}
        chosen = {name: file for name, file in chosen.items() if name in SPLITS or not _repeats(file, chosen)}
    return {name: Part(partial(_read, data, file), partial(_claims, data, file)) for name, file in chosen.items()}


def _repeats(file: Path | None, lists: dict[str, Path | None]) -> bool:
    """Return whether a list holds only pictures of train, val and test, such as VOC's own trainval.txt."""
    known = {name for split in SPLITS if (listed := lists.get(split)) for name in _lines(listed)}
    return file is None or known >= set(_lines(file))


def _lines(file: Path) -> list[str]:
    try:
        return read_lines(file)
    except RecordError:  # reading the list reports the error
        return []


def _claims(data: Path, listed: Path | None, images: Path | None) -> list[Path]:
    folders = [child(data, OBJECTS), child(data, CLASSES)]
    if listed is None:
        return [images or child(data, PICTURES), *folders]
    names = set(_lines(listed))
    pictures = _by_name(images or child(data, PICTURES))
    masks = (file for folder in folders for file in list_pictures(folder, deep=True) if name_in(file, folder) in names)
    return [listed, *(pictures[name] for name in names if name in pictures), *masks]


def _by_name(folder: Path) -> dict[str, Path]:
    """Return the pictures below the folder, by their paths without suffix."""
    return {name_in(path, folder): path for path in list_pictures(folder, deep=True)} if folder.is_dir() else {}


def _read(data: Path, listed: Path | None, images: Path | None, report: Report) -> AnnotatedData:
    names = _names(data)
    gathering = Gathering(data, report)
    folder = images or child(data, PICTURES)
    if not child(data, CLASSES).is_dir() or not folder.is_dir():
        gone = folder if not folder.is_dir() else data / CLASSES
        raise DataError(f"{gone}: no such folder; Pascal VOC has JPEGImages, SegmentationObject and SegmentationClass")
    if listed is None:
        objects = child(data, OBJECTS)
        chosen = [name_in(path, objects) for path in list_pictures(objects, deep=True)]
    else:
        chosen = sorted(read_list(listed))
        gathering.files.add(listed)
    by_name = _by_name(folder)
    for name in chosen:
        with gathering.record(listed or data, name, name):
            if name not in by_name:
                message = f"no picture {folder / name} with one of {', '.join(sorted(SUFFIXES))}"
                raise RecordError("missing-picture", message, "put it there or remove its name")
            _read_picture(by_name[name], name, data, names, gathering)
    if names.by_number == dict(enumerate(OWN_NAMES, 1)):
        gathering.notes.append(
            f"{data}: no labelmap.txt or class_names.txt, so condinst uses the twenty classes of Pascal VOC"
        )
    return gathering.finish([name for name in dict.fromkeys(names.by_colour.values()) if name])


def _names(data: Path) -> Names:
    """Read labelmap.txt (name:red,green,blue:…) or class_names.txt (one a line, from 0), else VOC's own classes."""
    if child(data, LABEL_MAP).is_file():
        return _read_label_map(child(data, LABEL_MAP))
    if child(data, NAMES).is_file():
        listed = [_class_name(name, child(data, NAMES)) for name in read_list(child(data, NAMES))]
        listed = [name for name in listed if name != "__ignore__"]
        numbered = dict(enumerate(listed, 0 if listed[0] in BACKGROUND else 1))
    else:
        numbered = dict(enumerate(OWN_NAMES, 1))
    by_number = {number: name for number, name in numbered.items() if name not in BACKGROUND}
    return Names(by_number, {_palette_colour(number): name for number, name in by_number.items()})


def _read_label_map(file: Path) -> Names:
    """Read the colours of a label map. The palette of a picture gives its numbers their meaning."""
    by_colour = {}
    for line in read_list(file):
        if line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        colour = rest.partition(":")[0].split(",")
        if (
            not name
            or len(colour) != 3
            or not all(COLOUR.fullmatch(part.strip()) and int(part) < 256 for part in colour)
        ):
            raise DataError(f"{file}: {line!a:.60} is not name:red,green,blue:…")
        red, green, blue = (int(part) for part in colour)
        by_colour[red * 65536 + green * 256 + blue] = "" if name in BACKGROUND else _class_name(name, file)
    if not any(by_colour.values()):
        raise DataError(f"{file}: names no class but the background")
    return Names(None, by_colour)


def _class_name(name: str, file: Path) -> str:
    try:
        return check_name(name, "a class")
    except RecordError as error:
        raise DataError(str(error.at(file, None))) from None


def _palette_colour(number: int) -> int:
    """Return VOC's colour of a class: the bits of its number, given to red, green and blue from the highest down."""
    colour = [0, 0, 0]
    for place in range(8):
        for channel in range(3):
            colour[channel] |= (number >> (3 * place + channel) & 1) << (7 - place)
    return colour[0] * 65536 + colour[1] * 256 + colour[2]


def _read_picture(path: Path, name: str, data: Path, names: Names, gathering: Gathering) -> None:
    height, width = measure(path)
    wanted = (child(data, folder) / f"{name}.png" for folder in (OBJECTS, CLASSES))
    file, class_file = (gathering.names.find(path) or path for path in wanted)
    gathering.files.update((file, class_file))
    objects = _read_plane(file, (height, width))
    classes = _read_plane(class_file, (height, width))
    gathering.see_turned(path)
    meanings = _meanings(class_file, names)
    drawn = []
    for piece in cut_pieces(objects):
        with gathering.record(file, piece.number, f"object {piece.number}"):
            shape = RunLengths.of(piece.mask, piece.x, piece.y)
            drawn.append(Drawn(_class(piece, classes, meanings), box_of(shape), shape))
    gathering.add(file, path, (height, width), drawn)


def _read_plane(file: Path, size: tuple[int, int]) -> NDArray[np.int64]:
    """Return the (H, W) numbers of a palette or grey picture, or the colours of other pictures; void is 0."""
    if not file.is_file():
        raise RecordError("missing-masks", f"{file}: no such file", "add it or remove the name from the list")
    numbers = read_numbers(file, str(file), MAX_PIXELS, colours=True)
    if numbers.shape != size:
        message = f"{file} has {numbers.shape[1]}×{numbers.shape[0]} pixels, the picture {size[1]}×{size[0]} (upright)"
        raise RecordError("wrong-size", message, "save the label image of the upright picture")
    numbers[numbers == (VOID_COLOUR if _is_colour(file) else VOID)] = 0
    return numbers


def _is_colour(file: Path) -> bool:
    with opened(file, str(file), MAX_PIXELS) as image:
        return image.mode in {"RGB", "RGBA"}


def _meanings(file: Path, names: Names) -> dict[int, str]:
    """Return pixel value → name, for this class picture."""
    if _is_colour(file):
        return names.by_colour
    if names.by_number is not None:
        return names.by_number
    with opened(file, str(file), MAX_PIXELS) as image:
        flat = image.getpalette() if image.mode == "P" else None
    if flat is None:  # a grey picture: its numbers have VOC's colours
        colours = [_palette_colour(number) for number in range(256)]
    else:
        colours = [red * 65536 + green * 256 + blue for red, green, blue in zip(*[iter(flat)] * 3, strict=False)]
    return {number: names.by_colour[colour] for number, colour in enumerate(colours) if colour in names.by_colour}


def _class(piece: Piece, classes: NDArray[np.int64], meanings: dict[int, str]) -> str:
    """Return the class of most pixels, without void and background."""
    rows, columns = piece.mask.shape
    found = classes[piece.y : piece.y + rows, piece.x : piece.x + columns][piece.mask]
    values, counts = np.unique(found, return_counts=True)
    votes = sorted(zip(counts.tolist(), values.tolist(), strict=True), reverse=True)
    votes = [(count, value) for count, value in votes if value and meanings.get(value) != ""]
    if not votes:
        raise RecordError("unknown-category", "no pixel of it has a class in SegmentationClass", "give it one")
    value = votes[0][1]
    if value not in meanings:
        colour = f" ({value >> 16}, {value >> 8 & 255}, {value & 255})" if value > VOID else ""
        raise RecordError("unknown-category", f"{value}{colour} is not a class", "add it to labelmap.txt")
    return meanings[value]

"""Pascal VOC: JPEGImages/, SegmentationObject/ with a number for each object, SegmentationClass/ with class numbers.

The class of an object is that of most of its pixels. 255 is void: neither object nor background, so left out.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from condinst.data.findings import RecordError, Report
from condinst.data.formats.gather import Drawn, Gathering, list_pictures, measure, read_list
from condinst.data.formats.masks.label_picture import Piece, cut_pieces, read_numbers
from condinst.data.formats.splits import SPLITS, Parts
from condinst.data.image import MAX_PIXELS, SUFFIXES, opened
from condinst.data.sample import AnnotatedData, RunLengths
from condinst.data.shapes import box_of
from condinst.errors import DataError

LISTS = Path("ImageSets") / "Segmentation"
VOID, VOID_COLOUR = 255, 224 * 65536 + 224 * 256 + 192
BACKGROUND = ("background", "_background_", "__background__")
OWN_NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


class Names(NamedTuple):
    """What a pixel of SegmentationClass stands for: by its number in a palette picture and by its colour otherwise.

    A background that a label map gives a colour of its own is there with an empty name. by_number: None where a label
    map gives colours only; the picture's palette then leads from number to colour.
    """

    by_number: dict[int, str] | None
    by_colour: dict[int, str]


def find(data: Path) -> Parts:
    """What can be read at `data`, a folder as VOC2012."""
    if not (data / "SegmentationObject").is_dir():
        return {}
    lists = data / LISTS
    splits = [split for split in SPLITS if (lists / f"{split}.txt").is_file()]
    return {split: partial(_read, data, lists / f"{split}.txt") for split in splits} or {
        "all": partial(_read, data, None)
    }


def _read(data: Path, listed: Path | None, images: Path | None, report: Report) -> AnnotatedData:
    names = _names(data)
    gathering = Gathering(data, report)
    folder = images or data / "JPEGImages"
    if not (data / "SegmentationClass").is_dir() or not folder.is_dir():
        gone = folder if not folder.is_dir() else data / "SegmentationClass"
        raise DataError(f"{gone}: no such folder; Pascal VOC has JPEGImages, SegmentationObject and SegmentationClass")
    if listed is None:
        chosen = [path.stem for path in list_pictures(data / "SegmentationObject")]
    else:
        chosen = sorted(read_list(listed))
    by_stem = {path.relative_to(folder).with_suffix("").as_posix(): path for path in list_pictures(folder, deep=True)}
    for name in chosen:
        with gathering.record(listed or data, name, name):
            if name not in by_stem:
                message = f"no picture {folder / name} with one of {', '.join(sorted(SUFFIXES))}"
                raise RecordError("missing-picture", message, "put it there or remove its name")
            _read_picture(by_stem[name], name, data, names, gathering)
    if names.by_number == dict(enumerate(OWN_NAMES, 1)):
        gathering.notes.append(f"{data}: no labelmap.txt or class_names.txt, so classes are the twenty of Pascal VOC")
    return gathering.finish([name for name in dict.fromkeys(names.by_colour.values()) if name])


def _names(data: Path) -> Names:
    """From labelmap.txt (name:red,green,blue:…) or class_names.txt (line by line from 0), else those of VOC itself."""
    if (data / "labelmap.txt").is_file():
        return _read_label_map(data / "labelmap.txt")
    if (data / "class_names.txt").is_file():
        listed = [name for name in read_list(data / "class_names.txt") if name != "__ignore__"]
        numbered = dict(enumerate(listed, 0 if listed[0] in BACKGROUND else 1))
    else:
        numbered = dict(enumerate(OWN_NAMES, 1))
    by_number = {number: name for number, name in numbered.items() if name not in BACKGROUND}
    return Names(by_number, {_palette_colour(number): name for number, name in by_number.items()})


def _read_label_map(file: Path) -> Names:
    """A label map gives colours; a palette picture's numbers get their meaning by the colours of its palette."""
    by_colour = {}
    for line in read_list(file):
        if line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        colour = rest.partition(":")[0].split(",")
        if not name or len(colour) != 3 or not all(part.strip().isdecimal() and int(part) < 256 for part in colour):
            raise DataError(f"{file}: {line!a:.60} is not name:red,green,blue:…")
        red, green, blue = (int(part) for part in colour)
        by_colour[red * 65536 + green * 256 + blue] = "" if name in BACKGROUND else name
    if not any(by_colour.values()):
        raise DataError(f"{file}: names no class but the background")
    return Names(None, by_colour)


def _palette_colour(number: int) -> int:
    """VOC's colour of a class: the bits of its number, dealt to red, green and blue from the highest down."""
    colour = [0, 0, 0]
    for place in range(8):
        for channel in range(3):
            colour[channel] |= (number >> (3 * place + channel) & 1) << (7 - place)
    return colour[0] * 65536 + colour[1] * 256 + colour[2]


def _read_picture(path: Path, name: str, data: Path, names: Names, gathering: Gathering) -> None:
    height, width = measure(path)
    file, class_file = (data / folder / f"{name}.png" for folder in ("SegmentationObject", "SegmentationClass"))
    objects = _read_plane(file, (height, width))
    classes = _read_plane(class_file, (height, width))
    meanings = _meanings(class_file, names)
    drawn = []
    for piece in cut_pieces(objects):
        with gathering.record(file, piece.number, f"object {piece.number}"):
            shape = RunLengths.of(piece.mask, piece.x, piece.y)
            drawn.append(Drawn(_class(piece, classes, meanings), box_of(shape), shape))
    gathering.add(file, path, (height, width), drawn)


def _read_plane(file: Path, size: tuple[int, int]) -> NDArray[np.int64]:
    """(H, W) numbers of a palette or grey picture, else colours; what is void is 0."""
    if not file.is_file():
        raise RecordError("missing-masks", f"{file}: no such file", "add it or remove the name from the list")
    numbers = read_numbers(file, str(file), MAX_PIXELS, colours=True)
    if numbers.shape != size:
        message = f"{file} has {numbers.shape[1]}×{numbers.shape[0]} pixels, the picture {size[1]}×{size[0]} (upright)"
        raise RecordError("wrong-size", message, "save it of the upright picture")
    numbers[numbers == (VOID_COLOUR if _is_colour(file) else VOID)] = 0
    return numbers


def _is_colour(file: Path) -> bool:
    with opened(file, str(file), MAX_PIXELS) as image:
        return image.mode in {"RGB", "RGBA"}


def _meanings(file: Path, names: Names) -> dict[int, str]:
    """Pixel value of this picture of classes → name."""
    if _is_colour(file):
        return names.by_colour
    if names.by_number is not None:
        return names.by_number
    with opened(file, str(file), MAX_PIXELS) as image:
        flat = image.getpalette() if image.mode == "P" else None
    if flat is None:  # a grey picture; its numbers have the colours of VOC
        colours = [_palette_colour(number) for number in range(256)]
    else:
        colours = [red * 65536 + green * 256 + blue for red, green, blue in zip(*[iter(flat)] * 3, strict=False)]
    return {number: names.by_colour[colour] for number, colour in enumerate(colours) if colour in names.by_colour}


def _class(piece: Piece, classes: NDArray[np.int64], meanings: dict[int, str]) -> str:
    """Of most of its pixels; void and background do not count."""
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
        raise RecordError("unknown-category", f"{value}{colour} stands for no class", "name it in labelmap.txt")
    return meanings[value]

"""A label image for each picture: images/NAME.* with labels/NAME.png (or .tif; or masks/), and a number per object.

0 is the background. All objects have one class. classes.txt may name it.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from condinst.data.findings import RecordError, Report
from condinst.data.formats.gather import Drawn, Gathering, list_pictures, measure
from condinst.data.formats.masks.label_picture import SUFFIXES, cut_pieces, read_numbers
from condinst.data.formats.masks.paired import (
    CLASSES,
    ByName,
    class_names,
    name_in,
    one_of,
    pairs,
    refuse_images,
    whole_folders,
)
from condinst.data.formats.masks.signs import LabelSigns
from condinst.data.formats.splits import WHOLE, Part, Parts
from condinst.data.pictures.listing import list_tree, same_case
from condinst.data.sample import AnnotatedData, RunLengths
from condinst.data.shapes import box_of
from condinst.errors import DataError

FOLDERS = ("labels", "masks")
# suffixes of the name of a label image, after the name of the picture
ENDINGS = ("", "_mask", "_masks", "_label", "_labels")


def find(data: Path) -> Parts:
    """Return the subsets in `data`, a folder. Raises DataError if labels/ and masks/ both hold label images."""
    if not data.is_dir():
        return {}
    found = [pair for pair in pairs(data, FOLDERS) if _label_files(pair.pictures, pair.masks)]
    parts: Parts = {
        pair.subset: Part(partial(_read, pair.pictures, pair.masks, data), whole_folders(pair)) for pair in found
    }
    if len(parts) < len(found) or (WHOLE in parts and len(parts) > 1):
        raise DataError(f"{data}: labels/ and masks/ both hold label images; keep one of them")
    return parts


def _label_files(pictures: Path, labels: Path) -> list[Path]:
    """Return label images in the folder, and in its sub-folders that also hold pictures in `pictures`."""
    folders = {"."} | {
        same_case(path.parent.relative_to(pictures).as_posix()) for path in list_pictures(pictures, True)
    }
    files = (file for file in list_tree(labels).files if file.suffix.lower() in SUFFIXES)
    return [file for file in files if same_case(file.parent.relative_to(labels).as_posix()) in folders]


def _read(pictures: Path, labels: Path, root: Path, images: Path | None, report: Report) -> AnnotatedData:
    refuse_images(images, root)
    gathering = Gathering(root, report)
    classes = class_names(root)
    if len(classes) > 1:
        raise DataError(
            f"{root / CLASSES}: names {len(classes)} classes, but label images only number objects; keep one class"
        )
    label_files = _label_files(pictures, labels)
    by_name = ByName(label_files, labels)
    signs = LabelSigns(len(label_files))
    for path in list_pictures(pictures, deep=True):
        files = [file for ending in ENDINGS for file in by_name.find(name_in(path, pictures) + ending)]
        for file in files:
            gathering.use(file, path)
        with gathering.record(path):
            if not files:
                remedy = "add one (all 0 if there is no object), or remove the picture"
                raise RecordError("missing-masks", f"no label image in {labels}", remedy)
            _read_picture(path, one_of(files, "label image"), classes[0], gathering, signs)
    gathering.alone((file for file in label_files if file not in gathering.files), pictures)
    for finding in signs.findings(labels):
        report(finding)
        gathering.notes.append(str(finding))
    return gathering.finish(classes)


def _read_picture(path: Path, file: Path, name: str, gathering: Gathering, signs: LabelSigns) -> None:
    height, width = measure(path)
    numbers = read_numbers(file, file.name, height * width)
    if numbers.shape != (height, width):
        message = f"{file} has {numbers.shape[1]}×{numbers.shape[0]} pixels, the picture {width}×{height} (upright)"
        raise RecordError("wrong-size", message, "save the label image of the upright picture")
    gathering.see_turned(path)
    pieces = cut_pieces(numbers)
    shapes = [RunLengths.of(piece.mask, piece.x, piece.y) for piece in pieces]
    gathering.add(file, path, (height, width), [Drawn(name, box_of(shape), shape) for shape in shapes])
    signs.look(numbers, pieces)

"""A label image for each picture: images/NAME.* with labels/NAME.png (or .tif; or masks/), a number for each object.

0 is the background. All objects are of one class, which classes.txt may name.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from condinst.data.findings import Finding, RecordError, Report
from condinst.data.formats.gather import Drawn, Gathering, list_pictures, measure
from condinst.data.formats.masks.label_picture import SUFFIXES, cut_pieces, read_numbers
from condinst.data.formats.masks.paired import CLASSES, class_names, one_of, pairs, refuse_images
from condinst.data.formats.splits import Parts
from condinst.data.sample import AnnotatedData, RunLengths
from condinst.data.shapes import box_of
from condinst.errors import DataError
from condinst.ops.contours import trace

FOLDERS = ("labels", "masks")
ENDINGS = ("", "_mask", "_masks", "_label", "_labels")  # what the name of a label image may have behind the picture's


def find(data: Path) -> Parts:
    """What can be read at `data`, a folder. Raises DataError where labels/ and masks/ both hold label images."""
    if not data.is_dir():
        return {}
    found = [(split, images, labels) for split, images, labels in pairs(data, FOLDERS) if _label_files(labels)]
    parts: Parts = {split or "all": partial(_read, images, labels, data) for split, images, labels in found}
    if len(parts) < len(found):
        raise DataError(f"{data}: labels/ and masks/ both hold label images; leave one of them")
    return parts


def _label_files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES and path.is_file()]


def _read(pictures: Path, labels: Path, root: Path, images: Path | None, report: Report) -> AnnotatedData:
    refuse_images(images, root)
    gathering = Gathering(root, report)
    classes = class_names(root)
    if len(classes) > 1:
        raise DataError(
            f"{root / CLASSES}: names {len(classes)} classes, but label images only number objects; leave one"
        )
    by_stem: dict[str, list[Path]] = {}
    for file in _label_files(labels):
        by_stem.setdefault(file.stem, []).append(file)
    binary = 0
    found = list_pictures(pictures)
    for path in found:
        files = [file for ending in ENDINGS for file in by_stem.get(path.stem + ending, [])]
        with gathering.record(path):
            if not files:
                remedy = "add one, all 0 where there is no object, or remove the picture"
                raise RecordError("missing-masks", f"no label image in {labels}", remedy)
            binary += _read_picture(path, one_of(files, "label image"), classes[0], gathering)
    known = {path.stem + ending for path in found for ending in ENDINGS}
    gathering.alone((file for stem, files in by_stem.items() if stem not in known for file in files), pictures)
    numbered = sum(bool(picture.objects) for picture in gathering.pictures)
    if binary and binary == numbered:
        message = f"each label image holds a single number, {binary} of them in several parts: are objects told apart?"
        remedy = "every object needs a number of its own"
        report(Finding("binary-labels", "warning", labels, None, message, remedy))
        gathering.notes.append(f"{labels}: {message} {remedy}")
    return gathering.finish(classes)


def _read_picture(path: Path, file: Path, name: str, gathering: Gathering) -> bool:
    """Whether all objects may have been given one number."""
    height, width = measure(path)
    numbers = read_numbers(file, file.name, height * width)
    if numbers.shape != (height, width):
        message = f"{file} has {numbers.shape[1]}×{numbers.shape[0]} pixels, the picture {width}×{height} (upright)"
        raise RecordError("wrong-size", message, "save the label image of the upright picture")
    pieces = cut_pieces(numbers)
    shapes = [RunLengths.of(piece.mask, piece.x, piece.y) for piece in pieces]
    gathering.add(file, path, (height, width), [Drawn(name, box_of(shape), shape) for shape in shapes])
    return len(pieces) == 1 and len(trace(pieces[0].mask)) > 1

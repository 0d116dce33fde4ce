"""A mask file for each object: ID/images/ID.png with ID/masks/*.png, or images/NAME.* with masks/NAME/*.png.

Every pixel that is not 0 is the object's. A folder inside NAME/ or masks/ names the class of the masks in it.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from condinst.data.findings import RecordError, Report
from condinst.data.formats.gather import Drawn, Gathering, list_pictures, measure
from condinst.data.formats.masks.label_picture import AGAIN, SUFFIXES, read_numbers
from condinst.data.formats.masks.paired import class_names, one_of, pairs, refuse_images
from condinst.data.formats.splits import Parts, split_named
from condinst.data.sample import AnnotatedData
from condinst.data.shapes import box_of, run_lengths


def find(data: Path) -> Parts:
    """What can be read at `data`, a folder."""
    if not data.is_dir():
        return {}
    plain = [
        (split, images, masks)
        for split, images, masks in pairs(data, ["masks"])
        if any(p.is_dir() for p in masks.iterdir())
    ]
    if plain:
        return {split or "all": partial(_read_plain, images, masks, data) for split, images, masks in plain}
    own = [folder for folder in sorted(data.iterdir()) if _is_own(folder)]
    return {"all": partial(_read_own, data)} if own else {}


def _is_own(folder: Path) -> bool:
    """Whether it is a picture's own folder."""
    return (
        folder.is_dir()
        and split_named(folder.name) is None
        and (folder / "images").is_dir()
        and (folder / "masks").is_dir()
    )


def _read_plain(pictures: Path, masks: Path, root: Path, images: Path | None, report: Report) -> AnnotatedData:
    refuse_images(images, root)
    gathering = Gathering(root, report)
    classes = class_names(root)
    found = list_pictures(pictures)
    for path in found:
        with gathering.record(path):
            _read_picture(path, masks / path.stem, classes, gathering)
    known = {path.stem for path in found}
    alone = (folder for folder in sorted(masks.iterdir()) if folder.is_dir() and folder.name not in known)
    gathering.alone((folder for folder in alone if folder.name[0] != "." and any(folder.iterdir())), pictures)
    return gathering.finish(classes)


def _read_own(data: Path, images: Path | None, report: Report) -> AnnotatedData:
    refuse_images(images, data)
    gathering = Gathering(data, report)
    classes = class_names(data)
    for folder in sorted(path for path in data.iterdir() if path.is_dir() and split_named(path.name) is None):
        if (folder / "images").is_dir():
            with gathering.record(folder):
                path = one_of(list_pictures(folder / "images"), "picture in images/")
                _read_picture(path, folder / "masks", classes, gathering)
    return gathering.finish(classes)


def _read_picture(path: Path, masks: Path, classes: list[str], gathering: Gathering) -> None:
    size = measure(path)
    if not masks.is_dir():
        remedy = "make the folder, empty if there is no object, or remove the picture"
        raise RecordError("missing-masks", f"no folder {masks}", remedy)
    objects = []
    for file in sorted(file for file in masks.rglob("*") if file.is_file() and file.name[0] != "."):
        with gathering.record(file):
            objects.append(_read_mask(file, _class(file, masks, classes), size))
    gathering.add(masks, path, size, objects)


def _class(file: Path, masks: Path, classes: list[str]) -> str:
    if file.parent != masks:
        name = file.relative_to(masks).parts[0]
        if name not in classes:
            remedy = "name it in classes.txt beside the pictures' folders"
            raise RecordError("unknown-category", f"its folder {name} is no class", remedy)
        return name
    if len(classes) > 1:
        remedy = "put it into a folder of its class's name"
        raise RecordError("unknown-category", f"which of {len(classes)} classes is it?", remedy)
    return classes[0]


def _read_mask(file: Path, name: str, size: tuple[int, int]) -> Drawn | None:
    """None where it is empty."""
    if file.suffix.lower() not in SUFFIXES:
        raise RecordError("bad-labels", "not a picture that keeps every pixel's value", AGAIN)
    numbers = read_numbers(file, file.name, size[0] * size[1], colours=True)
    if numbers.shape != size:
        message = f"has {numbers.shape[1]}×{numbers.shape[0]} pixels, its picture {size[1]}×{size[0]} (upright)"
        raise RecordError("wrong-size", message, "save the mask of the upright picture")
    shape = run_lengths(numbers > 0)
    return None if shape is None else Drawn(name, box_of(shape), shape)

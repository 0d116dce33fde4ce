"""A mask file for each object: ID/images/ID.png with ID/masks/*.png, or images/NAME.* with masks/NAME/*.png.

Every pixel other than 0 belongs to the object. A folder inside NAME/ or masks/ names the class of its masks.
"""

from __future__ import annotations

from collections.abc import Set
from functools import partial
from pathlib import Path

from condinst.data.findings import RecordError, Report
from condinst.data.formats.gather import Drawn, Gathering, list_pictures, measure
from condinst.data.formats.masks.label_picture import AGAIN, SUFFIXES, read_numbers
from condinst.data.formats.masks.paired import class_names, name_in, one_of, pairs, refuse_images, whole_folders
from condinst.data.formats.masks.signs import MaskSigns
from condinst.data.formats.splits import WHOLE, Part, Parts, split_named
from condinst.data.pictures.listing import AnyCase, child, list_tree, subfolders
from condinst.data.sample import AnnotatedData
from condinst.data.shapes import box_of, run_lengths


def find(data: Path) -> Parts:
    """Return the subsets in `data`, a folder."""
    if not data.is_dir():
        return {}
    plain = [pair for pair in pairs(data, ["masks"]) if _has_folders(pair.pictures, pair.masks)]
    if plain:
        return {
            pair.subset: Part(partial(_read_plain, pair.pictures, pair.masks, data), whole_folders(pair))
            for pair in plain
        }
    return {WHOLE: Part(partial(_read_own, data), lambda _: [data])} if any(map(_is_own, subfolders(data))) else {}


def _has_folders(pictures: Path, masks: Path) -> bool:
    """Return whether `masks` has a folder for a picture, or a folder that matches no folder of pictures."""
    at_top = (child(pictures, folder.name).is_dir() for folder in subfolders(masks))
    any_case = AnyCase()
    deep = (any_case.find(masks / name_in(path, pictures)) for path in list_pictures(pictures, deep=True))
    return not all(at_top) or any(folder is not None and folder.is_dir() for folder in deep)


def _is_own(folder: Path) -> bool:
    """Return whether the folder belongs to one picture."""
    return split_named(folder.name) is None and child(folder, "images").is_dir() and child(folder, "masks").is_dir()


def _read_plain(pictures: Path, masks: Path, root: Path, images: Path | None, report: Report) -> AnnotatedData:
    refuse_images(images, root)
    gathering = Gathering(root, report)
    classes = class_names(root)
    any_case, signs = AnyCase(), MaskSigns()
    wanted = {path: masks / name_in(path, pictures) for path in list_pictures(pictures, deep=True)}
    own = {path: any_case.find(folder) or folder for path, folder in wanted.items()}
    folders = set(own.values())
    for path, folder in own.items():
        with gathering.record(path):
            files = [file for file in _mask_files(folder) if _nearest(file, folders) == folder]
            _read_picture(path, folder, files, classes, gathering, signs)
    left = (file for file in list_tree(masks).files if file not in gathering.files and file.suffix.lower() in SUFFIXES)
    gathering.alone(dict.fromkeys(_without_picture(file, masks, pictures) for file in left), pictures)
    _tell(signs, masks, gathering)
    return gathering.finish(classes)


def _nearest(file: Path, folders: Set[Path]) -> Path | None:
    """Return the innermost of `folders` that holds the file."""
    return next((folder for folder in file.parents if folder in folders), None)


def _without_picture(file: Path, masks: Path, pictures: Path) -> Path:
    """Return the outermost folder around a mask file without a matching folder of pictures, or the file itself."""
    place, beside = masks, pictures
    for name in file.parent.relative_to(masks).parts:
        place, beside = place / name, child(beside, name)
        if not beside.is_dir():
            return place
    return file


def _read_own(data: Path, images: Path | None, report: Report) -> AnnotatedData:
    refuse_images(images, data)
    gathering = Gathering(data, report)
    classes = class_names(data)
    signs = MaskSigns()
    for folder in (path for path in subfolders(data) if split_named(path.name) is None):
        if (pictures := child(folder, "images")).is_dir():
            with gathering.record(folder):
                path = one_of(list_pictures(pictures, deep=True), "picture in images/")
                masks = child(folder, "masks")
                _read_picture(path, masks, _mask_files(masks), classes, gathering, signs)
    _tell(signs, data, gathering)
    return gathering.finish(classes)


def _tell(signs: MaskSigns, masks: Path, gathering: Gathering) -> None:
    for finding in signs.findings(masks):
        gathering.report(finding)
        gathering.notes.append(str(finding))


def _mask_files(folder: Path) -> list[Path]:
    return list(list_tree(folder).files) if folder.is_dir() else []


def _read_picture(
    path: Path, masks: Path, files: list[Path], classes: list[str], gathering: Gathering, signs: MaskSigns
) -> None:
    gathering.files.update(files)
    size = measure(path)
    if not masks.is_dir():
        remedy = "make the folder (empty if there is no object), or remove the picture"
        raise RecordError("missing-masks", f"no folder {masks}", remedy)
    gathering.see_turned(path)
    objects = []
    for file in files:
        with gathering.record(file):
            objects.append(_read_mask(file, _class(file, masks, classes), size, signs))
    gathering.add(masks, path, size, objects)


def _class(file: Path, masks: Path, classes: list[str]) -> str:
    if file.parent != masks:
        name = file.relative_to(masks).parts[0]
        if name not in classes:
            remedy = "add it to classes.txt beside the folders of the pictures"
            raise RecordError("unknown-category", f"its folder {name} is not a class", remedy)
        return name
    if len(classes) > 1:
        remedy = "put it into a folder with the name of its class"
        raise RecordError(
            "unknown-category", f"the data set has {len(classes)} classes, and the file states none", remedy
        )
    return classes[0]


def _read_mask(file: Path, name: str, size: tuple[int, int], signs: MaskSigns) -> Drawn | None:
    """Return one object; None if the mask is empty."""
    if file.suffix.lower() not in SUFFIXES:
        raise RecordError("bad-labels", "not a lossless picture", AGAIN)
    numbers = read_numbers(file, file.name, size[0] * size[1], colours=True)
    if numbers.shape != size:
        message = f"has {numbers.shape[1]}×{numbers.shape[0]} pixels, its picture {size[1]}×{size[0]} (upright)"
        raise RecordError("wrong-size", message, "save the mask of the upright picture")
    signs.look(numbers)
    shape = run_lengths(numbers > 0)
    return None if shape is None else Drawn(name, box_of(shape), shape)

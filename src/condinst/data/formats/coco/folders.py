"""Finds COCO JSON files and their pictures, in plain folders and in the layouts of COCO, Roboflow and CVAT."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from condinst.data.findings import Report
from condinst.data.formats.coco.pictures import listed_pictures
from condinst.data.formats.coco.read import read_coco
from condinst.data.formats.gather import list_pictures
from condinst.data.formats.labelme.read import is_labelme
from condinst.data.formats.splits import WHOLE, Part, Parts, contains, name_subsets, split_named
from condinst.data.pictures.listing import child, files_in
from condinst.data.sample import AnnotatedData
from condinst.errors import DataError

ANNOTATIONS = "annotations"  # the folder of the annotation files, beside the folders of pictures
INSTANCES = "instances_"  # prefixes of the annotation files of COCO and CVAT; a subset and a year may follow
OTHER_TASKS = ("captions_", "image_info_", "panoptic_", "person_keypoints_", "stuff_")  # other files of COCO
DEFAULT = "default"  # CVAT's subset name for a data set without subsets
ROBOFLOW = "_annotations.coco.json"  # this file lies among the pictures
FOLDERS = ("images", "data", "JPEGImages")  # beside the file; FiftyOne uses the second folder, labelme the third
KEYS = (b'"images"', b'"annotations"', b'"categories"')


def find(data: Path) -> Parts:
    """Return the subsets at `data`, a COCO file or a folder with COCO files.

    A file name that says what the file holds is enough; the file is not opened. A file of another name is a subset if
    it holds COCO and lies beside the files of train, val or test. Raises DataError if COCO files of several years leave
    a choice.
    """
    if not data.is_dir():
        return {WHOLE: _part(data)} if data.suffix.lower() == ".json" and not is_labelme(data) else {}
    own, instances = _own(data), _instances(data)
    covered = set(map(split_named, own))
    subsets = {name: file for name, file in instances.items() if split_named(name) not in covered - {None}} | own
    if any(map(split_named, subsets)):
        return _named(subsets)
    single = [file for file in (child(data, ROBOFLOW), child(data, "annotations.json")) if file.is_file()]
    if not single and len(instances) > 1:
        return _named(instances)
    single += [file for name, file in instances.items() if name.lower() == DEFAULT]
    return {WHOLE: _part(single[0])} if single else {}


def find_lone(data: Path) -> Parts:
    """Return the COCO files in the folder `data` or in its annotations/, with any name, such as Label Studio's
    result.json.

    One file is the whole data set. Several files are its subsets.
    """
    files = [file for file in _json_files(data) if is_coco(file)]
    files = [file for file in files if not file.name.lower().startswith(OTHER_TASKS)] or files
    return {WHOLE: _part(files[0])} if len(files) == 1 else _named({_subset(file): file for file in reversed(files)})


def claims_beside(file: Path, images: Path | None) -> list[Path]:
    """Return the pictures of the other COCO files in the folder of `file`."""
    others = (other for other in files_in(file.parent, ".json") if other != file and is_coco(other))
    return [path for other in others for path in _claims(other, images)]


def is_coco(file: Path) -> bool:
    """Return whether a JSON file of any size looks like COCO."""
    return sum(contains(file, *KEYS)) > 1 and not is_labelme(file)


def _part(file: Path) -> Part:
    return Part(partial(_read, file), partial(_claims, file))


def _named(subsets: dict[str, Path]) -> Parts:
    return {name: _part(subsets[key]) for name, key in name_subsets(subsets).items()}


def _json_files(data: Path) -> list[Path]:
    return [file for place in (data, child(data, ANNOTATIONS)) for file in files_in(place, ".json")]


def _own(data: Path) -> dict[str, Path]:
    """Return train.json and the like, and other COCO files beside them, in the folder or in annotations/."""
    files = [file for file in _json_files(data) if not file.name.lower().startswith((INSTANCES, *OTHER_TASKS))]
    named = {file.stem: file for file in reversed(files) if split_named(file.stem)}
    places = {file.parent for file in named.values()}
    others = (file for file in files if file.parent in places and not split_named(file.stem) and is_coco(file))
    return named | {file.stem: file for file in others} if named else {}


def _instances(data: Path) -> dict[str, Path]:
    """Return the files of COCO and CVAT in annotations/ by subset. If a subset is a split, its year is left out."""
    found: dict[str, list[Path]] = {}
    for file in files_in(child(data, ANNOTATIONS), ".json"):
        if file.name.lower().startswith(INSTANCES):
            without_year = re.sub(r"\d{4}$", "", _subset(file))
            found.setdefault(without_year if split_named(without_year) else _subset(file), []).append(file)
    return {name: _only(data, files) for name, files in found.items()}


def _subset(file: Path) -> str:
    return re.sub(f"^{INSTANCES}", "", file.stem, flags=re.IGNORECASE)


def _only(folder: Path, files: list[Path]) -> Path:
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise DataError(f"{folder}: holds {names}; name one of these files instead of the folder")
    return files[0]


def _read(annotations: Path, images: Path | None, report: Report) -> AnnotatedData:
    folder = images or _image_folder(annotations)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of images; give it with --images")
    return read_coco(annotations, folder, report=report)


def _claims(annotations: Path, images: Path | None) -> list[Path]:
    return [annotations, *listed_pictures(annotations, images or _image_folder(annotations))]


def _image_folder(annotations: Path) -> Path:
    """Return the folder of the pictures.

    This is `images` or `data` beside the file, as COCO, CVAT and Roboflow write, or the file's own folder.
    """
    if annotations.name.lower() == ROBOFLOW:
        return annotations.parent
    here, subset = annotations.parent, _subset(annotations)
    of_instances = subset != annotations.stem
    root = here.parent if here.name.lower() == ANNOTATIONS or of_instances else here
    images = child(root, "images")
    of_subset = [child(images, subset), child(root, subset), images]
    if of_instances:
        return next((folder for folder in (child(here, "images"), *of_subset) if folder.is_dir()), root / subset)
    folders = [child(child(here, "images"), subset), *(child(here, name) for name in FOLDERS), *of_subset]
    return next((folder for folder in folders if folder.is_dir()), _among_pictures(annotations) or here / "images")


def _among_pictures(annotations: Path) -> Path | None:
    """Return the file's own folder, if it holds pictures."""
    return annotations.parent if list_pictures(annotations.parent) else None

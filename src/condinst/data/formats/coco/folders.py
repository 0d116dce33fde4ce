"""Where COCO JSON files and their pictures lie: a folder of one's own, COCO's, Roboflow's and CVAT's layouts."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from condinst.data.findings import Report
from condinst.data.formats.coco.read import read_coco
from condinst.data.formats.gather import list_pictures
from condinst.data.formats.labelme.read import is_labelme
from condinst.data.formats.splits import SPLITS, Parts, Split, glance, split_named
from condinst.data.sample import AnnotatedData
from condinst.errors import DataError

ANNOTATIONS = "annotations"  # the folder of the files, beside those of the pictures
INSTANCES = "instances_"  # how the annotation files of COCO and CVAT begin; their subset and a year may follow
WHOLE = "default"  # CVAT's name for the subset of a data set without subsets
ROBOFLOW = "_annotations.coco.json"  # lies among its pictures
FOLDERS = ("images", "data", "JPEGImages")  # beside the file; the second is FiftyOne's, the third labelme's
KEYS = (b'"images"', b'"annotations"', b'"categories"')


def find(data: Path) -> Parts:
    """What can be read at `data`, a COCO file or a folder that holds some; no file of a folder is opened.

    Raises DataError where COCO's files of several years leave a choice.
    """
    if not data.is_dir():
        return {"all": partial(_read, data)} if data.suffix.lower() == ".json" and not is_labelme(data) else {}
    parts: Parts = {}
    for split in SPLITS:
        if file := _own(data, split) or _only(data, [file for file in _subsets(data) if _split(file) == split]):
            parts[split] = partial(_read, file)
    whole = _only(data, [file for file in _subsets(data) if _subset(file).lower() == WHOLE])
    single = next((file for file in (data / ROBOFLOW, data / "annotations.json") if file.is_file()), whole)
    return parts or ({"all": partial(_read, single)} if single else {})


def find_lone(data: Path) -> Parts:
    """The only COCO file in the folder `data` or its annotations/, whatever its name: Label Studio's result.json.

    Raises DataError where there are several.
    """
    there = [file for place in (data, data / ANNOTATIONS) for file in sorted(place.glob("*.json"))]
    file = _only(data, [file for file in there if file.is_file() and _is_coco(file)])
    return {"all": partial(_read, file)} if file else {}


def _is_coco(file: Path) -> bool:
    seen = glance(file)
    return sum(key in seen for key in KEYS) > 1 and not is_labelme(file)


def _own(folder: Path, split: Split) -> Path | None:
    """train.json or the like, in the folder itself or in annotations/."""
    files = [file for place in (folder, folder / ANNOTATIONS) for file in sorted(place.glob("*.json"))]
    return next((file for file in files if split_named(file.stem) == split), None)


def _subsets(folder: Path) -> list[Path]:
    return sorted((folder / ANNOTATIONS).glob(f"{INSTANCES}*.json"))


def _subset(file: Path) -> str:
    return file.stem.removeprefix(INSTANCES)


def _split(file: Path) -> Split | None:
    return split_named(re.sub(r"\d{4}$", "", _subset(file)))


def _only(folder: Path, files: list[Path]) -> Path | None:
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise DataError(f"{folder}: holds {names}; name one of these files instead of the folder")
    return files[0] if files else None


def _read(annotations: Path, images: Path | None, report: Report) -> AnnotatedData:
    folder = images or _image_folder(annotations)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of images; give it with --images")
    return read_coco(annotations, folder, report=report)


def _image_folder(annotations: Path) -> Path:
    """`images` or `data` beside the file, where COCO, CVAT and Roboflow put the pictures, or the file's own folder."""
    if annotations.name == ROBOFLOW:
        return annotations.parent
    here, subset = annotations.parent, _subset(annotations)
    root = here.parent if here.name == ANNOTATIONS or annotations.stem.startswith(INSTANCES) else here
    of_subset = [root / "images" / subset, root / subset, root / "images"]
    if annotations.stem.startswith(INSTANCES):
        return next((folder for folder in (here / "images", *of_subset) if folder.is_dir()), root / subset)
    folders = [here / "images" / subset, *(here / name for name in FOLDERS), *of_subset]
    return next((folder for folder in folders if folder.is_dir()), _among_pictures(annotations) or here / "images")


def _among_pictures(annotations: Path) -> Path | None:
    """The file's own folder, where that holds pictures."""
    return annotations.parent if list_pictures(annotations.parent) else None

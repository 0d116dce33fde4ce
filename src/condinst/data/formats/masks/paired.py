"""Folders of pictures with folders of masks beside them: how they pair up, how they are split and what is a class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from condinst.data.findings import RecordError
from condinst.data.formats.gather import read_list
from condinst.data.formats.splits import SPLITS, Split, split_named
from condinst.errors import DataError, UsageError

CLASSES = "classes.txt"
ONE_CLASS = "object"  # where nothing names one


def pairs(data: Path, names: Sequence[str]) -> list[tuple[Split | None, Path, Path]]:
    """(split, pictures, masks) for images/ with a folder of one of `names`, or their train/ and val/; none without.

    Raises DataError where two of `names` are there.
    """
    images = data / "images"
    beside = [data / name for name in names if (data / name).is_dir()]
    if not images.is_dir() or not beside:
        return []
    below = {split_named(path.name): path for path in sorted(images.iterdir()) if path.is_dir()}
    found: list[tuple[Split | None, Path, Path]] = []
    for masks in beside:
        split = [(split, below[split], masks / below[split].name) for split in SPLITS if split in below]
        found += [each for each in split if each[2].is_dir()] or [(None, images, masks)]
    return found


def class_names(folder: Path) -> list[str]:
    """Those of classes.txt in the folder or in the one above, which must agree; one class where there is none."""
    files = [place / CLASSES for place in (folder, folder.parent) if (place / CLASSES).is_file()]
    lists = [read_list(file) for file in files]
    if len(lists) == 2 and lists[0] != lists[1]:
        raise DataError(f"{files[0]}: names other classes than {files[1]}; remove one of the two files")
    return lists[0] if lists else [ONE_CLASS]


def refuse_images(images: Path | None, source: Path) -> None:
    """--images has no meaning where masks are found by the place of their picture."""
    if images is not None:
        raise UsageError(f"--images: in {source} the pictures lie beside their masks; leave the option out")


def one_of(files: Sequence[Path], what: str) -> Path:
    """The only one. Raises RecordError for none or several."""
    if len(files) != 1:
        got = ", ".join(file.name for file in files[:3]) or "none"
        raise RecordError("bad-layout", f"expected one {what}, got {got}", "leave one")
    return files[0]

"""Folders of pictures with folders of masks beside them: pairs, splits and classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from condinst.data.findings import RecordError
from condinst.data.formats.gather import read_list
from condinst.data.formats.splits import WHOLE, name_subsets, split_named
from condinst.data.pictures.listing import child, same_case, subfolders
from condinst.errors import DataError, UsageError

CLASSES = "classes.txt"
ONE_CLASS = "object"  # the class name if no folder or file names one


class Pair(NamedTuple):
    """A folder of pictures and the folder of their masks. subset: WHOLE if the data set has no splits."""

    subset: str
    pictures: Path
    masks: Path


def pairs(data: Path, names: Sequence[str]) -> list[Pair]:
    """Return images/ with a folder of one of `names`, or their subsets train/, val/ and test/; nothing without them."""
    images = child(data, "images")
    beside = [folder for name in names if (folder := child(data, name)).is_dir()]
    if not images.is_dir() or not beside:
        return []
    found: list[Pair] = []
    for masks in beside:
        below = [folder.name for folder in subfolders(images) if child(masks, folder.name).is_dir()]
        subsets = name_subsets(below) if any(map(split_named, below)) else {}
        found += [Pair(subset, images / name, child(masks, name)) for subset, name in subsets.items()]
        found += [] if subsets else [Pair(WHOLE, images, masks)]
    return found


def whole_folders(pair: Pair) -> Callable[[Path | None], Iterable[Path]]:
    """Return the files and folders claimed by a pair of folders: all files in both."""
    return lambda _: (pair.pictures, pair.masks)


class ByName:
    """Files of one folder tree, found by the path and name of a picture in another tree.

    Case matters only if two names differ in nothing else.
    """

    def __init__(self, files: Iterable[Path], root: Path) -> None:
        self._exact: dict[str, list[Path]] = {}
        self._any_case: dict[str, list[Path]] = {}
        for file in files:
            name = name_in(file, root)
            self._exact.setdefault(name, []).append(file)
            self._any_case.setdefault(same_case(name), []).append(file)

    def find(self, name: str) -> list[Path]:
        """Return the files of that name without its suffix."""
        return self._exact.get(name) or self._any_case.get(same_case(name), [])


def name_in(file: Path, root: Path) -> str:
    """Return the path of the file below `root`, without its suffix."""
    return file.relative_to(root).with_suffix("").as_posix()


def class_names(folder: Path) -> list[str]:
    """Return the classes of classes.txt in the folder or in its parent, which must agree.

    Without a list, there is one class.
    """
    files = [file for place in (folder, folder.parent) if (file := child(place, CLASSES)).is_file()]
    lists = [read_list(file) for file in files]
    if len(lists) == 2 and lists[0] != lists[1]:
        raise DataError(f"{files[0]}: names other classes than {files[1]}; remove one of the two files")
    return lists[0] if lists else [ONE_CLASS]


def refuse_images(images: Path | None, source: Path) -> None:
    """--images has no meaning if masks are found by the place of their picture."""
    if images is not None:
        raise UsageError(f"--images: in {source} the pictures lie beside their masks; leave the option out")


def one_of(files: Sequence[Path], what: str) -> Path:
    """Return the only file. Raises RecordError for none or several."""
    if len(files) != 1:
        got = ", ".join(file.name for file in files[:3]) or "none"
        raise RecordError("bad-layout", f"expected one {what}, got {got}", "leave one")
    return files[0]

"""Finds unused files in the folder of a data set: pictures, annotation files, archives, closed folders."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from condinst.data.findings import Finding, Report
from condinst.data.formats.coco.folders import is_coco
from condinst.data.formats.cvat import is_cvat
from condinst.data.formats.labelme.read import is_labelme
from condinst.data.formats.yolo.read import is_data_yaml
from condinst.data.image import SUFFIXES
from condinst.data.listing import Tree
from condinst.errors import some

ARCHIVES = frozenset({".7z", ".bz2", ".gz", ".rar", ".tar", ".tgz", ".xz", ".zip"})
PICTURES = SUFFIXES | {  # includes pictures that no reader accepts
    ".arw", ".avif", ".cr2", ".cr3", ".dcm", ".dng", ".exr", ".heic", ".heif", ".jfif", ".jxl", ".mpo", ".ndpi", ".nef",
    ".psd", ".svs", ".tga",
}  # fmt: skip
HEAD = 4096  # bytes read to find the contents of a text or XML file
NUMBER = rb"[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?"
ROW = re.compile(rb"\s*\d+(?:\.0+)?(?:\s+" + NUMBER + rb"){4,}\s*(?:\n|\r|$)")  # a row of YOLO: a class and coordinates
BOXES = re.compile(rb"<annotation[\s>]")  # boxes of Pascal VOC


class Unread(NamedTuple):
    """Files that no reader used, and folders that could not be listed."""

    pictures: tuple[Path, ...]
    annotations: tuple[Path, ...]
    archives: tuple[Path, ...]
    tree: Tree


def find_unread(tree: Tree, used: Collection[Path], claims: Callable[[], Iterable[Path]]) -> Unread:
    """Compare the files of `tree` with the files in `used`.

    claims: files and folders that other parts of the data set use; called only if some files seem to be unused.
    """
    left = [file for file in tree.files if _sort(file) and file not in used]
    if left:
        paths = (path for path in (*used, *claims()) if "\0" not in str(path))  # no file has such a name
        known = {os.path.realpath(path) for path in paths}
        left = [file for file in left if not _is_known(os.path.realpath(file), known)]
    sorts = [(file, _sort(file)) for file in left]
    pictures = tuple(file for file, sort in sorts if sort == "picture")
    archives = tuple(file for file, sort in sorts if sort == "archive")
    annotations = tuple(file for file, sort in sorts if sort == "text" and _is_annotation(file))
    return Unread(pictures, annotations, archives, tree)


def tell_unread(unread: Unread, root: Path, report: Report) -> list[str]:
    """Report the unread files, and return a note for each sort of file, with the count and the folders."""
    for finding in _findings(unread):
        report(finding)
    sorts = (
        (unread.pictures, "pictures that no annotation names"),
        (unread.annotations, "annotation files that belong to no picture or subset read here"),
        (unread.archives, "archives; unpack them if they belong to the data set"),
        (unread.tree.broken, "links that lead nowhere"),
        (unread.tree.unfollowed, "links to folders, as they lie behind several other links"),
        (unread.tree.closed, "folders that cannot be read"),
    )
    return [f"{root}: left out {len(files)} {what} ({_places(files, root)})" for files, what in sorts if files]


def _findings(unread: Unread) -> Iterator[Finding]:
    for folder, files in _by_folder(unread.pictures):
        message = f"{len(files)} pictures here are in no split, the first is {files[0].name}"
        yield Finding(
            "unlisted-picture", "info", folder, None, message, "they are not used; annotate them or take them away"
        )
    for folder, files in _by_folder(unread.annotations):
        message = f"{len(files)} annotation files here are not read, the first is {files[0].name}"
        remedy = "put them where the format has them, name the file to use it, or take them away"
        yield Finding("unread-annotations", "warning", folder, None, message, remedy)
    for file in unread.archives:
        yield Finding("packed-archive", "info", file, None, "an archive, which is not looked into", "unpack it")
    for path in unread.tree.broken:
        message = f"a link that leads nowhere: {os.readlink(path)}"
        yield Finding("broken-link", "warning", path, None, message, "put the file there or remove the link")
    for path in unread.tree.unfollowed:
        message = "a link to a folder that lies behind several other links"
        yield Finding("broken-link", "warning", path, None, message, "put the folder itself in its place")
    for path in unread.tree.closed:
        yield Finding("closed-folder", "error", path, None, "the folder cannot be read", "see to its permissions")


def _sort(file: Path) -> str:
    suffix = file.suffix.lower()
    if suffix in PICTURES:
        return "picture"
    if suffix in ARCHIVES:
        return "archive"
    return "text" if suffix in (".json", ".txt", ".xml", ".yaml", ".yml") else ""


def _is_annotation(file: Path) -> bool:
    """Return whether the file holds annotations. Settings, licences and lists of classes lie in many data sets."""
    suffix = file.suffix.lower()
    if suffix == ".json":
        return is_coco(file) or is_labelme(file)
    if suffix in (".yaml", ".yml"):
        return is_data_yaml(file)
    start = _start(file)
    if suffix == ".xml":
        return is_cvat(file) or BOXES.search(start) is not None
    return ROW.match(start) is not None


def _start(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(HEAD)
    except OSError:
        return b""


def _is_known(file: str, known: Collection[str]) -> bool:
    """Return whether the file, or a folder around it, is in the set."""
    while file not in known:
        above = os.path.dirname(file)
        if above == file:
            return False
        file = above
    return True


def _by_folder(files: Iterable[Path]) -> list[tuple[Path, list[Path]]]:
    found: dict[Path, list[Path]] = {}
    for file in files:
        found.setdefault(file.parent, []).append(file)
    return sorted(found.items())


def _places(files: Iterable[Path], root: Path) -> str:
    """Return the files relative to `root`; for many files, return the number of files in each folder."""
    names = [_from(file, root) for file in files]
    if len(names) <= 3:
        return ", ".join(names)
    counts = Counter(os.path.dirname(name) or "the folder itself" for name in names)
    return some([f"{count} in {folder}" for folder, count in sorted(counts.items())], most=4)


def _from(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file)

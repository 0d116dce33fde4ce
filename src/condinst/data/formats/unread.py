"""Finds unused files in the folder of a data set: pictures, annotation files, archives, other files, closed folders."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from condinst.data.findings import Finding, Report
from condinst.data.formats.file_kinds import holds_annotations, kind_of
from condinst.data.pictures.listing import Tree
from condinst.errors import some


class Unread(NamedTuple):
    """Files that no reader used, and folders that could not be listed."""

    pictures: tuple[Path, ...]
    annotations: tuple[Path, ...]
    archives: tuple[Path, ...]
    others: tuple[Path, ...]
    tree: Tree


def find_unread(tree: Tree, used: Collection[Path], claims: Callable[[], Iterable[Path]]) -> Unread:
    """Compare the files of `tree` with the files in `used`.

    claims: files and folders that other parts of the data set use; called only if some files seem to be unused.
    """
    left = [file for file in tree.files if kind_of(file) and file not in used]
    if left:
        paths = (path for path in (*used, *claims()) if "\0" not in str(path))  # no file has such a name
        known = {os.path.realpath(path) for path in paths}
        left = [file for file in left if not _is_known(os.path.realpath(file), known)]
    kinds = [(file, kind_of(file)) for file in left]
    pictures, annotations, archives, others = (
        tuple(file for file, kind in kinds if kind == wanted)
        for wanted in ("picture", "annotation", "archive", "other")
    )
    return Unread(pictures, tuple(filter(holds_annotations, annotations)), archives, others, tree)


def tell_unread(unread: Unread, root: Path, report: Report) -> list[str]:
    """Report the unread files, and return a note for each sort of file, with the count and the folders."""
    for finding in _findings(unread):
        report(finding)
    sorts = (
        (unread.pictures, "pictures that no annotation names"),
        (unread.annotations, "annotation files that belong to no picture or subset read here"),
        (unread.archives, "archives; unpack them if they belong to the data set"),
        (unread.others, f"files of kinds that condinst does not read: {_endings(unread.others)}"),
        (unread.tree.broken, "broken links"),
        (unread.tree.unfollowed, "links to folders behind several other links"),
        (unread.tree.special, "pipes, sockets or devices"),
        (unread.tree.closed, "folders that cannot be read"),
    )
    return [f"{root}: left out {len(files)} {what} ({_places(files, root)})" for files, what in sorts if files]


def _findings(unread: Unread) -> Iterator[Finding]:
    for folder, files in _by_folder(unread.pictures):
        message = f"{len(files)} pictures are in no split, for example {files[0].name}"
        yield Finding(
            "unlisted-picture",
            "info",
            folder,
            None,
            message,
            "condinst does not use them; annotate them or remove them",
        )
    for folder, files in _by_folder(unread.annotations):
        message = f"{len(files)} annotation files are not read, for example {files[0].name}"
        remedy = "move them to the place that the format defines, name the file to use it, or remove them"
        yield Finding("unread-annotations", "warning", folder, None, message, remedy)
    for file in unread.archives:
        yield Finding(
            "packed-archive", "info", file, None, "an archive; condinst does not look into archives", "unpack it"
        )
    for folder, files in _by_folder(unread.others):
        message = f"{len(files)} files are of kinds that condinst does not read ({_endings(files)})"
        remedy = "if they hold annotations or pictures, convert them to a format that condinst reads"
        yield Finding("unread-file", "info", folder, None, message, remedy)
    for path in unread.tree.special:
        message = "a pipe, a socket or a device"
        yield Finding("unread-file", "warning", path, None, message, "condinst does not open it; remove it")
    for path in unread.tree.broken:
        message = f"a broken link to {os.readlink(path)}"
        yield Finding("broken-link", "warning", path, None, message, "put the file there or remove the link")
    for path in unread.tree.unfollowed:
        message = "a link to a folder behind several other links"
        yield Finding("broken-link", "warning", path, None, message, "put the folder itself in its place")
    for path in unread.tree.closed:
        yield Finding("closed-folder", "error", path, None, "the folder cannot be read", "check its permissions")


def _is_known(file: str, known: Collection[str]) -> bool:
    """Return whether the file, or a folder around it, is in the set."""
    while file not in known:
        above = os.path.dirname(file)
        if above == file:
            return False
        file = above
    return True


def _endings(files: Iterable[Path]) -> str:
    """Return how many files have each ending: 3 .csv, 1 .npy."""
    counts = Counter(file.suffix.lower() or "without ending" for file in files)
    return some([f"{count} {ending}" for ending, count in counts.most_common()])


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

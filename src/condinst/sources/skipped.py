"""Count the files in a folder that `predict` does not read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from condinst.data.pictures.image import SUFFIXES
from condinst.data.pictures.listing import Tree, list_tree
from condinst.errors import some


def skipped(sources: Sequence[str], recursive: bool = False) -> Iterator[str]:
    """Yield a line for each kind of file that `predict` leaves out of a folder in `sources`, with the count.

    recursive: whether `predict` reads the sub-folders.
    """
    for folder in map(Path, sources):
        try:
            if folder.is_dir():
                yield from _in_folder(folder, recursive)
        except (OSError, ValueError):  # reported as a source that cannot be read
            continue


def _in_folder(folder: Path, recursive: bool) -> Iterator[str]:
    tree = list_tree(folder)
    here = [path for path in tree.files if recursive or path.parent == folder]
    others = [path.suffix.lower() for path in here if path.suffix.lower() not in SUFFIXES]
    if others:
        endings = [f"{count} {ending or 'without ending'}" for ending, count in Counter(others).most_common()]
        yield f"{folder}: left out {len(others)} files that are not pictures ({some(endings)})"
    below = [path for path in tree.files if path.parent != folder and path.suffix.lower() in SUFFIXES]
    if below and not recursive:
        folders = sorted({path.parent.relative_to(folder).as_posix() for path in below})
        remedy = f"--recursive or the pattern '{folder}/**/*' includes them"
        yield f"{folder}: left out {len(below)} pictures in sub-folders ({some(folders, most=3)}); {remedy}"
    yield from _unreachable(folder, tree)


def _unreachable(folder: Path, tree: Tree) -> Iterator[str]:
    for paths, what in (
        (tree.broken, "broken links"),
        (tree.unfollowed, "links to folders behind several other links"),
        (tree.special, "pipes, sockets or devices"),
        (tree.closed, "folders that cannot be read"),
    ):
        if paths:
            names = some([path.relative_to(folder).as_posix() for path in paths], most=3)
            yield f"{folder}: left out {len(paths)} {what} ({names})"

"""Count the files in a folder that `predict` does not read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from condinst.data.pictures.image import SUFFIXES
from condinst.data.pictures.listing import Tree, entries, list_tree
from condinst.errors import some


def skipped(sources: Sequence[str]) -> Iterator[str]:
    """Yield a line for each kind of file that `predict` leaves out of a folder in `sources`, with the count."""
    for folder in map(Path, sources):
        try:
            if folder.is_dir():
                yield from _in_folder(folder)
        except (OSError, ValueError):  # reported as a source that cannot be read
            continue


def _in_folder(folder: Path) -> Iterator[str]:
    here = entries(folder)
    others = [path.suffix.lower() for path in here if path.is_file() and path.suffix.lower() not in SUFFIXES]
    if others:
        endings = [f"{count} {ending or 'without ending'}" for ending, count in Counter(others).most_common()]
        yield f"{folder}: left out {len(others)} files that are no pictures ({some(endings)})"
    tree = list_tree(folder)
    if below := [path for path in tree.files if path.parent != folder and path.suffix.lower() in SUFFIXES]:
        folders = sorted({path.parent.relative_to(folder).as_posix() for path in below})
        places = some(folders, most=3)
        yield f"{folder}: left out {len(below)} pictures in sub-folders ({places}); '{folder}/**/*' reads them, too"
    yield from _unreachable(folder, tree)


def _unreachable(folder: Path, tree: Tree) -> Iterator[str]:
    if tree.broken:
        yield f"{folder}: left out {len(tree.broken)} links that lead nowhere ({_names(tree.broken, folder)})"
    if tree.closed:
        yield f"{folder}: left out {len(tree.closed)} folders that cannot be read ({_names(tree.closed, folder)})"


def _names(paths: Sequence[Path], folder: Path) -> str:
    return some([path.relative_to(folder).as_posix() for path in paths], most=3)

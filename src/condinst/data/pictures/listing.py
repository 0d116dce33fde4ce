"""Lists the files of a folder. All readers list files here, so all follow links and skip the same system files."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import NamedTuple

SYSTEM = frozenset(  # files of operating systems, storage devices and programs; compared in lower case
    {
        "#recycle", "$recycle.bin", "__macosx", "__pycache__", "@eadir", "desktop.ini", "ehthumbs.db",
        "ehthumbs_vista.db", "icon\r", "lost+found", "system volume information", "thumbs.db",
    }
)  # fmt: skip
DEEPEST_LINKS = 4  # links to folders on one path; condinst does not follow a path with more links


class Tree(NamedTuple):
    """All files below a folder, sorted.

    closed: folders that cannot be read. broken: links without a target. unfollowed: links to folders that were not
    followed, because their path already holds too many links. special: pipes, sockets and devices, which are never
    opened.
    """

    files: tuple[Path, ...]
    closed: tuple[Path, ...]
    broken: tuple[Path, ...]
    unfollowed: tuple[Path, ...]
    special: tuple[Path, ...] = ()


def is_system(name: str) -> bool:
    """Return whether the name is a system name: hidden files, `__MACOSX`, `Thumbs.db`, `@eaDir`."""
    return name.startswith(".") or name.lower() in SYSTEM


def entries(folder: Path) -> list[Path]:
    """Return the files and folders in `folder`, sorted, without system files. Raises OSError if it cannot be read."""
    return sorted(folder / name for name in os.listdir(folder) if not is_system(name))


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in `folder` and the links to folders, as `entries` does."""
    return [path for path in entries(folder) if path.is_dir()]


def files_in(folder: Path, *endings: str) -> list[Path]:
    """Return the files in `folder` that end with one of `endings`, in any case; none if there is no folder."""
    found = entries(folder) if folder.is_dir() else []
    return [path for path in found if path.suffix.lower() in endings and path.is_file()]


def list_tree(folder: Path) -> Tree:
    """Return all files below `folder`, at any depth.

    Links to folders are followed, except a link back to `folder` or to a folder that contains the link. Raises OSError
    if `folder` itself cannot be read.
    """
    tree: tuple[list[Path], ...] = ([], [], [], [], [])
    files, closed, broken, unfollowed, special = tree
    os.listdir(folder)
    around = {*folder.absolute().parents, *folder.resolve().parents}
    waiting = [(folder, frozenset(_identity(path) for path in around if path.exists()), 0)]
    while waiting:
        place, above, links = waiting.pop()
        try:
            state = place.stat()
            listed = [entry for entry in os.scandir(place) if not is_system(entry.name)]
        except OSError:
            closed.append(place)
            continue
        above = above | {(state.st_dev, state.st_ino)}
        for entry in listed:
            path = place / entry.name
            if _is_folder(entry):
                linked = entry.is_symlink()
                if linked and _identity(path) in above:
                    continue
                if linked and links == DEEPEST_LINKS:
                    unfollowed.append(path)
                else:
                    waiting.append((path, above, links + linked))
            elif entry.is_symlink() and not path.exists():
                broken.append(path)
            else:
                (files if _is_file(entry) else special).append(path)
    return Tree(*(tuple(sorted(paths)) for paths in tree))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _identity(folder: Path) -> tuple[int, int]:
    state = folder.stat()
    return state.st_dev, state.st_ino


class AnyCase:
    """Finds a path even if the letters on the disk have another case. Each folder is listed once."""

    def __init__(self) -> None:
        self._listed: dict[Path, dict[str, Path]] = {}

    def find(self, wanted: Path) -> Path | None:
        """Return `wanted`, or the same name in another case or Unicode form, or None.

        The Unicode form (NFC or NFD) is how accents are stored. Raises OSError for a path that cannot be read.
        """
        if wanted.exists():
            return wanted
        if wanted == wanted.parent or wanted.name == "..":
            return None
        folder = self.find(wanted.parent)
        if folder is None or not folder.is_dir():
            return None
        if folder not in self._listed:
            self._listed[folder] = {same_case(path.name): path for path in reversed(_readable(folder))}
        return self._listed[folder].get(same_case(wanted.name))


def child(folder: Path, name: str) -> Path:
    """Return the file or folder `name` in `folder`, in any case of letters.

    Returns `folder / name` if there is no such file.
    """
    return AnyCase().find(folder / name) or folder / name


def same_case(name: str) -> str:
    """Return a form of `name` without differences in case and in how accents are stored."""
    return unicodedata.normalize("NFC", name).casefold()


def _readable(folder: Path) -> list[Path]:
    try:
        return entries(folder)
    except OSError:
        return []


def same_file(one: Path, other: Path) -> bool:
    """Return whether two paths lead to the same file, or to files with the same bytes."""
    if one.samefile(other):
        return True
    return one.stat().st_size == other.stat().st_size and one.read_bytes() == other.read_bytes()

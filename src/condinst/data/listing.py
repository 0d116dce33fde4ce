"""What a folder holds. Every reader lists files here, so all of them follow links and skip the same system files."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import NamedTuple

SYSTEM = frozenset(  # written by operating systems, storage devices and programs; compared in lower case
    {
        "#recycle", "$recycle.bin", "__macosx", "__pycache__", "@eadir", "desktop.ini", "ehthumbs.db",
        "ehthumbs_vista.db", "icon\r", "lost+found", "system volume information", "thumbs.db",
    }
)  # fmt: skip
DEEPEST_LINKS = 4  # links to folders on one path; a path with more of them is not followed


class Tree(NamedTuple):
    """All files below a folder, sorted. closed: folders that cannot be read. broken: links that lead nowhere.

    unfollowed: links to folders that were not followed, because the path to them holds too many links already.
    """

    files: tuple[Path, ...]
    closed: tuple[Path, ...]
    broken: tuple[Path, ...]
    unfollowed: tuple[Path, ...]


def is_system(name: str) -> bool:
    """Whether a file or folder of this name belongs to the system: hidden files, `__MACOSX`, `Thumbs.db`, `@eaDir`."""
    return name.startswith(".") or name.lower() in SYSTEM


def entries(folder: Path) -> list[Path]:
    """The files and folders in `folder`, sorted, without those of the system. Raises OSError if it cannot be read."""
    return sorted(folder / name for name in os.listdir(folder) if not is_system(name))


def subfolders(folder: Path) -> list[Path]:
    """The folders in `folder` and links to folders, as `entries`."""
    return [path for path in entries(folder) if path.is_dir()]


def files_in(folder: Path, *endings: str) -> list[Path]:
    """The files in `folder` whose names end with one of `endings`, in lower case or not; none without the folder."""
    found = entries(folder) if folder.is_dir() else []
    return [path for path in found if path.suffix.lower() in endings and path.is_file()]


def list_tree(folder: Path) -> Tree:
    """All files below `folder`, at any depth. Links to folders are followed; a link that leads back to a folder around
    itself or around `folder` is not. Raises OSError if `folder` itself cannot be read."""
    tree: tuple[list[Path], list[Path], list[Path], list[Path]] = ([], [], [], [])
    files, closed, broken, unfollowed = tree
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
            elif _is_file(entry):
                files.append(path)
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
    """Finds a path whose letters may be of another case on the disk. Each folder is listed once."""

    def __init__(self) -> None:
        self._listed: dict[Path, dict[str, Path]] = {}

    def find(self, wanted: Path) -> Path | None:
        """`wanted` if it is there, else the file or folder that is called the same but for the case of letters and the
        way accents are stored (NFC or NFD); None where there is none. Raises OSError for a path that is closed."""
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
    """The file or folder `name` in `folder`, whatever the case of its letters on the disk; `folder / name` where there
    is none."""
    return AnyCase().find(folder / name) or folder / name


def same_case(name: str) -> str:
    """`name` in a form that is equal for names that differ in the case of letters or in how accents are stored."""
    return unicodedata.normalize("NFC", name).casefold()


def _readable(folder: Path) -> list[Path]:
    try:
        return entries(folder)
    except OSError:
        return []


def same_file(one: Path, other: Path) -> bool:
    """Whether two paths lead to the same file, or to files of the same bytes."""
    if one.samefile(other):
        return True
    return one.stat().st_size == other.stat().st_size and one.read_bytes() == other.read_bytes()

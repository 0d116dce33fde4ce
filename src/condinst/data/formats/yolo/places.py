"""Resolves the paths of a data.yaml. The paths may come from another machine, or start from another folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from condinst.data.pictures.listing import AnyCase
from condinst.errors import DataError


def roots(document: dict[str, Any], file: Path) -> list[Path]:
    """Return the folders that entries may start from, with the file's own folder last.

    A `path` that does not exist here comes from the machine that wrote the file.
    """
    beside, stated = file.parent, document.get("path")
    if stated is not None and not isinstance(stated, str):
        raise DataError(f"{file}: 'path' must be the folder of the data set, got {stated!a:.60}; correct it")
    stated_roots = [beside / stated, beside.parent / stated] if stated else []
    return list(dict.fromkeys([*(root for root in stated_roots if root.is_dir()), beside]))


def locate(entry: str, document: dict[str, Any], file: Path, names: AnyCase) -> Path | None:
    """Return the path of an entry of data.yaml; None if there is no such path.

    Roboflow writes `../train/images` for `train/images` beside the file. If `train/images` exists beside the file,
    condinst reads the entry so, and then no entry leads out of the file's folder: files outside belong to another data
    set.
    """
    found = place(entry, roots(document, file), names)
    if found is None or not leads_out(entry, found, file.parent):
        return found
    return None if _starts_beside(document, file, names) else found


def place(entry: str, starts: Sequence[Path], names: AnyCase) -> Path | None:
    """Return a path that starts from one of `starts`; None if it does not exist.

    The path is tried as written, and then as a path from the machine that wrote it. If it leads out of the last of
    `starts`, its end inside is tried first.
    """
    stated = next((found for start in starts if (found := names.find(start / entry))), None)
    if stated is not None and not leads_out(entry, stated, starts[-1]):
        return stated
    return _own(entry, starts, names) or stated


def leads_out(entry: str, found: Path, home: Path) -> bool:
    """Return whether an entry leads out of the folder `home` by `..`."""
    parts = PureWindowsPath(entry).parts
    return ".." in parts and not Path(os.path.abspath(found)).is_relative_to(os.path.abspath(home))


def _own(entry: str, starts: Sequence[Path], names: AnyCase) -> Path | None:
    ends = _tails(entry)
    return next((found for end in ends for start in starts if (found := names.find(start / end))), None)


def _starts_beside(document: dict[str, Any], file: Path, names: AnyCase) -> bool:
    """Return whether an entry with `..` exists inside the file's own folder."""
    listed = [document.get(key) for key in ("train", "val", "test")]
    entries = [entry for value in listed for entry in (value if isinstance(value, list) else [value])]
    outward = [entry for entry in entries if isinstance(entry, str) and ".." in PureWindowsPath(entry).parts]
    return any(_own(entry, [file.parent], names) for entry in outward)


def _tails(entry: str) -> list[str]:
    """A path without its root, drive and `..`, and its ends of two parts or more, longest first: ../train/images (of
    Roboflow), data/images/a.jpg (of CVAT), /content/set/images/a.jpg and set\\images are each found beside the file."""
    path = PureWindowsPath(entry) if "/" not in entry else PurePosixPath(entry)
    parts = [part for part in path.parts if part not in (path.anchor, "..", ".")]
    return ["/".join(parts[first:]) for first in range(len(parts)) if first == 0 or len(parts) - first > 1]

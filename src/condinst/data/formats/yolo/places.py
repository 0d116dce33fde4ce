"""What the paths in a data.yaml mean: they may be those of another machine, or start from another folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from condinst.data.listing import AnyCase
from condinst.errors import DataError


def roots(document: dict[str, Any], file: Path) -> list[Path]:
    """The folders that entries may start from, the file's own last. A `path` that is not here is that of the machine it
    was written on."""
    beside, stated = file.parent, document.get("path")
    if stated is not None and not isinstance(stated, str):
        raise DataError(f"{file}: 'path' must be the folder of the data set, got {stated!a:.60}; correct it")
    stated_roots = [beside / stated, beside.parent / stated] if stated else []
    return list(dict.fromkeys([*(root for root in stated_roots if root.is_dir()), beside]))


def locate(entry: str, document: dict[str, Any], file: Path, names: AnyCase) -> Path | None:
    """What an entry of data.yaml means; None where it is not there.

    `../train/images` is read as `train/images` beside the file where that is there (Roboflow writes it so), and then no
    entry of the file leads out of its folder: what is there belongs to another data set.
    """
    found = place(entry, roots(document, file), names)
    if found is None or not leads_out(entry, found, file.parent):
        return found
    return None if _starts_beside(document, file, names) else found


def place(entry: str, starts: Sequence[Path], names: AnyCase) -> Path | None:
    """What a path means that starts from one of `starts`: as it says, else as on the machine it was written on; None
    where neither is there. Where it leads out of the last of `starts`, its end inside comes first."""
    stated = next((found for start in starts if (found := names.find(start / entry))), None)
    if stated is not None and not leads_out(entry, stated, starts[-1]):
        return stated
    return _own(entry, starts, names) or stated


def leads_out(entry: str, found: Path, home: Path) -> bool:
    """Whether an entry leads out of the folder `home` by `..`."""
    parts = PureWindowsPath(entry).parts
    return ".." in parts and not Path(os.path.abspath(found)).is_relative_to(os.path.abspath(home))


def _own(entry: str, starts: Sequence[Path], names: AnyCase) -> Path | None:
    ends = _tails(entry)
    return next((found for end in ends for start in starts if (found := names.find(start / end))), None)


def _starts_beside(document: dict[str, Any], file: Path, names: AnyCase) -> bool:
    """Whether an entry with `..` is found inside the file's own folder."""
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

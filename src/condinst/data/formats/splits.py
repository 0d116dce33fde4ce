"""What the readers of annotation formats share: how a data set is split, and what offers to read a part of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from condinst.data.findings import Report
from condinst.data.sample import AnnotatedData

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
SPELLINGS: dict[Split, tuple[str, ...]] = {  # names of files and folders, any case
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}

HEAD = 2**20  # bytes of a file to look at for what it is
LARGEST_GLANCE = 2**26  # a file up to this size is looked at whole: what tells its format may follow a picture

Reader = Callable[[Path | None, Report], AnnotatedData]  # (folder of the pictures, where the user names one; report)
Parts = dict[Split | Literal["all"], Reader]  # "all" and nothing else, where a data set is not split


def split_named(name: str) -> Split | None:
    """The split that a file or folder of this name holds, if its name says so."""
    return next((split for split, names in SPELLINGS.items() if name.lower() in names), None)


def glance(file: Path) -> bytes:
    """What tells the format of a file: the whole of it, of a large one its beginning; nothing if it cannot be read."""
    try:
        with file.open("rb") as stream:
            return stream.read(LARGEST_GLANCE if file.stat().st_size <= LARGEST_GLANCE else HEAD)
    except OSError:
        return b""

"""Splits and subsets: code that the readers of annotation formats share, and the parts of a data set they offer."""

from __future__ import annotations

import mmap
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from pathlib import Path
from typing import NamedTuple

from condinst.data.findings import Report
from condinst.data.sample import AnnotatedData, Box

SPLITS = ("train", "val", "test")
SPELLINGS = {  # names of files and folders, in any case; if two mean the same split, the first is used
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
WHOLE = "all"  # the only part of a data set without splits
RESERVED = frozenset({WHOLE, "annotations", "download", "images", "labels", "names", "nc", "path"})
LONGEST_NAME = 60  # maximum characters of a subset's name

Reader = Callable[[Path | None, Report], AnnotatedData]  # (folder of the pictures, if the user names one; report)


class Part(NamedTuple):
    """A part of a data set.

    read: reads the part. claims: takes the folder of the pictures, if the user names one, and returns files that `read`
    uses and folders that belong to the whole part, without checking records. root: the folder of the data set, if the
    format states a root.
    """

    read: Reader
    claims: Callable[[Path | None], Iterable[Path]]
    root: Path | None = None


Parts = dict[str, Part]  # WHOLE alone; or train, val, test, then other subsets by their own names


def split_named(name: str) -> str | None:
    """Return the split of a file or folder with this name, or None if the name is no split."""
    return next((split for split, names in SPELLINGS.items() if name.lower() in names), None)


def name_subsets(names: Iterable[str]) -> dict[str, str]:
    """Return the name that users call each subset → the name in the data set.

    The result holds train, val, test first, then the other names as far as a file may have such a name. If two names
    mean one split, such as `train` and `Training`, the first of SPELLINGS is the split, and the other is a subset.
    """
    left = sorted(set(names))
    found: dict[str, str] = {}
    for split in SPLITS:
        meant = [name for name in left if split_named(name) == split]
        if meant:
            found[split] = min(meant, key=lambda name: (SPELLINGS[split].index(name.lower()), name != name.lower()))
            left.remove(found[split])
    taken = set(SPLITS)
    for name in left:
        own = _own_name(name)
        numbered = (own if number == 1 else f"{own}-{number}" for number in count(1))
        key = next(key for key in numbered if key.casefold() not in taken)
        taken.add(key.casefold())
        found[key] = name
    return found


def without_repeats(parts: Mapping[str, AnnotatedData]) -> tuple[dict[str, AnnotatedData], list[str]]:
    """Return the data set without subsets that only repeat train, val and test, and a note for each.

    For example, a subset that lists all pictures repeats them.
    """
    kept = {name: data for name, data in parts.items() if name in SPLITS}
    known = [_contents(data) for data in kept.values()]
    notes = []
    for name, data in parts.items():
        if name in kept:
            continue
        if kept and all(any(it in one for one in known) for it in _contents(data)):
            held = f"{' and '.join(kept)} hold all of its {len(data.samples)} pictures and their objects"
            notes.append(f"{data.source}: left out, because {held}")
        else:
            kept[name] = data
    return kept, notes


def _contents(data: AnnotatedData) -> set[tuple[Path, str, Box]]:
    """Return the keys of the objects of a data set. A picture without objects has an empty name."""
    found: set[tuple[Path, str, Box]] = set()
    for sample in data.samples:
        path = sample.path.resolve()
        found.add((path, "", (0.0, 0.0, 0.0, 0.0)))
        found.update((path, data.classes[instance.label], instance.box) for instance in sample.instances)
    return found


def _own_name(name: str) -> str:
    """Return whether the name fits a file, a folder and a key of data.yaml, and has no other meaning in the formats."""
    fit = re.sub(r"[^\w.+-]+", "_", name).strip("._-")[:LONGEST_NAME] or "default"
    return f"{fit}_subset" if fit.lower() in RESERVED else fit


def contains(file: Path, *words: bytes) -> list[bool]:
    """Return whether the file holds each of `words`, anywhere.

    Files of any size are searched without loading the whole file. A file that cannot be read holds none.
    """
    try:
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return [any(content.find(coded) >= 0 for coded in _coded(word)) for word in words]
    except (OSError, ValueError):  # ValueError: an empty file
        return [False] * len(words)


def _coded(word: bytes) -> tuple[bytes, ...]:
    """Return the word in UTF-8 and in UTF-16; Windows programs save text in UTF-16."""
    text = word.decode("ascii")
    return word, text.encode("utf-16-le"), text.encode("utf-16-be")

"""What the readers of annotation formats share: how a data set is divided, and what offers to read a part of it."""

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
SPELLINGS = {  # names of files and folders, in any case; where two mean the same split, the first is taken for it
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
WHOLE = "all"  # the only part of a data set that is not divided
RESERVED = frozenset({WHOLE, "annotations", "download", "images", "labels", "names", "nc", "path"})
LONGEST_NAME = 60  # characters of a subset's name

Reader = Callable[[Path | None, Report], AnnotatedData]  # (folder of the pictures, where the user names one; report)


class Part(NamedTuple):
    """A part of a data set. read: reads it. claims: given the folder of the pictures where the user names one, files
    that `read` would use and folders that belong to the part as a whole, found without checking any record. root: the
    folder of the data set, where the format states one."""

    read: Reader
    claims: Callable[[Path | None], Iterable[Path]]
    root: Path | None = None


Parts = dict[str, Part]  # WHOLE alone; or train, val, test, then other subsets by their own names, whichever are there


def split_named(name: str) -> str | None:
    """The split that a file or folder of this name holds, if its name says so."""
    return next((split for split, names in SPELLINGS.items() if name.lower() in names), None)


def name_subsets(names: Iterable[str]) -> dict[str, str]:
    """How users call the subsets of a data set: train, val, test where their names mean that, then the others by their
    own names, as far as a file may be called so. Returns that name → the name in the data set.

    Where two mean one split, as `train` and `Training`, the first of SPELLINGS is the split, the other a subset.
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
    """The same without subsets of which train, val and test hold every picture and object, as a list of all pictures
    does; and a note for each of them."""
    kept = {name: data for name, data in parts.items() if name in SPLITS}
    known = [_contents(data) for data in kept.values()]
    notes = []
    for name, data in parts.items():
        if name in kept:
            continue
        if kept and all(any(it in one for one in known) for it in _contents(data)):
            held = f"{' and '.join(kept)} hold all of its {len(data.samples)} pictures and their objects"
            notes.append(f"{data.source}: left out, as {held}")
        else:
            kept[name] = data
    return kept, notes


def _contents(data: AnnotatedData) -> set[tuple[Path, str, Box]]:
    """What tells the objects of a data set apart; a picture without objects has an empty name."""
    found: set[tuple[Path, str, Box]] = set()
    for sample in data.samples:
        path = sample.path.resolve()
        found.add((path, "", (0.0, 0.0, 0.0, 0.0)))
        found.update((path, data.classes[instance.label], instance.box) for instance in sample.instances)
    return found


def _own_name(name: str) -> str:
    """Fit for a file, a folder and a key of data.yaml, none of which the formats use for something else."""
    fit = re.sub(r"[^\w.+-]+", "_", name).strip("._-")[:LONGEST_NAME] or "default"
    return f"{fit}_subset" if fit.lower() in RESERVED else fit


def contains(file: Path, *words: bytes) -> list[bool]:
    """Whether the file, of UTF-8 or UTF-16, holds each of `words` (ASCII), wherever they stand. A file of any size is
    searched without being read into memory; one that cannot be read holds none."""
    try:
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return [any(content.find(coded) >= 0 for coded in _coded(word)) for word in words]
    except (OSError, ValueError):  # ValueError: an empty file
        return [False] * len(words)


def _coded(word: bytes) -> tuple[bytes, ...]:
    """The word as UTF-8 has it, and as UTF-16, in which Windows programs save text."""
    text = word.decode("ascii")
    return word, text.encode("utf-16-le"), text.encode("utf-16-be")

"""Names of the files of each picture: no two alike, none that is there already."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator


def unique_stems(stems: Iterable[str], taken: Callable[[str], bool]) -> Iterator[str]:
    """`stems` in their order, numbered from the second of a kind on: photo, photo-2. taken: whether files forbid one.

    Some file systems do not tell A.png from a.png, nor two spellings of é.
    """
    used: dict[str, int] = {}
    for stem in stems:
        number = used.get(_folded(stem), 0) + 1
        name = stem if number == 1 else f"{stem}-{number}"
        while (number > 1 and _folded(name) in used) or taken(name):
            number += 1
            name = f"{stem}-{number}"
        used[_folded(stem)] = number
        used.setdefault(_folded(name), 1)
        yield name


def any_exists(folder: str | os.PathLike[str], names: Iterable[str]) -> bool:
    """Return whether one of the files is there, a broken link of its name, or a folder with something in it."""
    paths = (os.path.join(folder, name) for name in names)
    return any(os.path.lexists(path) and not (os.path.isdir(path) and not os.listdir(path)) for path in paths)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()

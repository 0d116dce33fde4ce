"""Finds the picture of a labelme file: the picture of imagePath, of the file's own name, or inside the file."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath

import numpy as np

from condinst.data.findings import Finding, RecordError
from condinst.data.formats.gather import Gathering
from condinst.data.formats.records import Record, text
from condinst.data.pictures.image import SUFFIXES, read_image
from condinst.data.pictures.listing import same_case, same_file
from condinst.errors import DataError

RENAMED = "{} files contain one picture and name another; condinst uses the picture that they contain"


def find_picture(document: Record, file: Path, images: Path | None, gathering: Gathering) -> Path:
    """Return the picture of `file`, with content `document`; `file` itself if the picture is only inside it.

    After files were renamed, imagePath may name the picture of another file. If condinst finds a picture of imagePath
    and a picture of the file's own name, the picture inside the file decides. Raises RecordError if nothing decides,
    and if there is no picture.
    """
    folder = images or file.parent
    own = _first([folder / f"{file.stem}{suffix}" for suffix in sorted(SUFFIXES)], gathering)
    if own and document.get("imagePath") in (None, ""):
        return own
    # a path written on Windows has backslashes; its last part is the name on any system
    name = PureWindowsPath(text(document, "imagePath"))
    named = _first([folder / name.as_posix(), folder / name.name], gathering)
    if named and own and not _agree(named, own):
        return _decide(named, own, document, file, gathering)
    if found := named or own:
        return found
    if document.get("imageData"):
        return file
    message, remedy = f"its picture {folder / name.as_posix()}: no such file", "put it there or give --images"
    raise RecordError("missing-picture", message, remedy)


def _first(places: list[Path], gathering: Gathering) -> Path | None:
    found = (gathering.names.find(place) for place in places)
    return next((path for path in found if path is not None and path.is_file()), None)


def _agree(named: Path, own: Path) -> bool:
    """Return whether both have the same name in one folder, or are the same picture."""
    if named.parent == own.parent and same_case(named.stem) == same_case(own.stem):
        return True
    return same_file(named, own)


def _decide(named: Path, own: Path, document: Record, file: Path, gathering: Gathering) -> Path:
    """Return the picture that is also inside the file. If imagePath names the other picture, report the difference."""
    inside = [path for path in (named, own) if document.get("imageData") and _same_pixels(file, path)]
    if len(inside) != 1:
        message = f"imagePath names {named}, but {own.name} has the name of the JSON file; both exist"
        raise RecordError("picture-mismatch", message, "correct imagePath, or rename the JSON file like its picture")
    if inside == [own]:
        message = f"imagePath names {named.name}, but the picture inside the file is {own.name}"
        gathering.note_counts[RENAMED] += 1
        gathering.report(
            Finding("picture-mismatch", "warning", file, None, message, f"condinst uses {own.name}; correct imagePath")
        )
    return inside[0]


def _same_pixels(file: Path, path: Path) -> bool:
    try:
        return np.array_equal(read_image(file), read_image(path))
    except DataError:
        return False

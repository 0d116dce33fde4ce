"""Writes a new folder as a whole or not at all, and puts pictures into the folder under new names."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from condinst.data.pictures.embedded import embedded_picture, may_embed
from condinst.data.pictures.image import MAX_PIXELS, SUFFIXES
from condinst.data.pictures.picture_file import opened
from condinst.errors import CondinstError, UsageError

BY_FORMAT = {"BMP": ".bmp", "GIF": ".gif", "JPEG": ".jpg", "JPEG2000": ".jp2", "PNG": ".png", "PPM": ".ppm",
             "TIFF": ".tif", "WEBP": ".webp", "AVIF": ".avif", "HEIF": ".heic",
             "MPO": ".jpg"}  # MPO: the JPEGs of two views by a phone or a drone; the first is read  # fmt: skip
KEPT = SUFFIXES - {".mpo"}  # suffixes of pictures that other programs also accept


def check_new(out: Path) -> None:
    """Raise UsageError if `out` is not empty, CondinstError if its content cannot be read."""
    try:
        free = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    except OSError as error:
        raise CondinstError(f"{out}: cannot be read ({error.strerror}); choose another folder") from None
    if not free:
        raise UsageError(f"{out}: already exists; choose a new or empty folder")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Give a folder to fill. The folder becomes `out` at the end, or is removed after an error.

    Raises UsageError if `out` is not empty, CondinstError if it cannot be written.
    """
    check_new(out)
    temporary = out.parent / f".{out.name[:100]}.{uuid.uuid4().hex}.part"
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if out.exists():
            out.rmdir()
        os.replace(temporary, out)
    except OSError as error:
        reason = error.strerror or error
        raise CondinstError(f"{out}: cannot be written ({reason}); free some space or choose another folder") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


RENAMED = "pictures were renamed, because another has the same name or a text file cannot hold the name"


class PictureNames:
    """Return names for pictures of many folders in one folder.

    Pictures keep their names. Names that differ only in suffix or case get numbers, because label files or the file
    system cannot keep them apart. Characters that are no text, and a dot that would hide the picture, become a stroke.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self.renamed = 0

    def new(self, path: Path) -> str:
        """Return a name for the picture with the suffix of a picture."""
        path = own_name(path)
        ending = path.suffix if path.suffix.lower() in KEPT else _ending(path)
        stem = _writable(path.stem if path.suffix.lower() in SUFFIXES else path.name)
        name, number = stem, 1
        while name.casefold() in self._taken:
            number += 1
            name = f"{stem}-{number}"
        self._taken.add(name.casefold())
        self.renamed += name + ending != path.name
        return name + ending


def own_name(path: Path) -> Path:
    """Return the name of the picture, as if it were a file of its own."""
    return path.with_suffix(_ending(path)) if may_embed(path) else path


def _writable(stem: str) -> str:
    """Return the name without control characters and bytes that are no UTF-8, and not hidden."""
    text = "".join("_" if ord(sign) < 32 or 0xD800 <= ord(sign) < 0xE000 else sign for sign in stem)
    return f"_{text[1:]}" if text.startswith(".") else text


def _ending(path: Path) -> str:
    with opened(path, str(path), MAX_PIXELS) as image:
        return BY_FORMAT[image.format or "PNG"]


def put(path: Path, target: Path, link: bool) -> None:
    """Copy the picture file to `target`, or link to it; makes missing folders.

    A picture inside another file is written as a file of its own.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if may_embed(path):
        target.write_bytes(embedded_picture(path, MAX_PIXELS))
    elif link:
        target.symlink_to(path.resolve())
    else:
        shutil.copyfile(path, target)

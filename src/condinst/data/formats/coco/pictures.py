"""Finds the file of a COCO record. Programs write a name only, or a path that holds only on their machine."""

from __future__ import annotations

import json
import mmap
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PureWindowsPath
from typing import Any
from urllib.parse import urlsplit

from condinst.data.pictures.listing import AnyCase, same_case, same_file

FILE_NAME, URL = (re.compile(rb'"%s"\s*:\s*"((?:[^"\\]|\\.)*)"' % key) for key in (b"file_name", b"coco_url"))


class Pictures:
    """Finds the files of the records of `annotations` in the folder `images`.

    elsewhere: number of pictures found in the folder although their path leads outside the folder.
    """

    def __init__(self, annotations: Path, images: Path, records: Iterable[Any]) -> None:
        self.images = images
        self.beside = annotations.parent
        self.elsewhere = 0
        self._names = AnyCase()
        stated = [stated_name(record) for record in records if isinstance(record, dict)]
        self._last = Counter(_last(name) for name in stated if isinstance(name, str))

    def find(self, name: str, overlay: str | None = None) -> Path:
        """Return the file of a record's name.

        overlay: the drawing that `condinst predict` wrote beside the document. The drawing is never the picture,
        although both may have the same name.

        condinst looks in the folder first, then from the annotation file's folder, then for the last part of the path
        if no other record ends with that part. Without a match, the path is the folder and the name.

        For a path that leads out of the folder (`..`), condinst uses the last part if the folder has such a file. The
        path may come from another machine and may lead to another data set on this machine.
        """
        expected = self.images / name
        # a path written on Windows has backslashes
        path = PureWindowsPath(name)
        own = [self.images / path.name] if self._last[_last(name)] == 1 else []
        places = [expected, self.images / path.as_posix(), self.beside / path.as_posix(), *own]
        if overlay is not None:
            drawing = (self.beside / overlay).resolve()
            places, own = ([place for place in group if place.resolve() != drawing] for group in (places, own))
        if ".." not in path.parts:
            return self._first(places) or expected
        inside, outside = self._first(own), self._first(places)
        if inside and outside and not same_file(inside, outside):
            self.elsewhere += 1
        return inside or outside or expected

    def _first(self, places: Iterable[Path]) -> Path | None:
        found = (self._names.find(place) for place in places)
        return next((path for path in found if path is not None and path.is_file()), None)


def stated_name(record: dict[str, Any]) -> Any:
    """Return the file name of a record. LVIS has none, but an address that ends with the folder and the name."""
    if record.get("file_name") is None and isinstance(record.get("coco_url"), str):
        return _of_url(record["coco_url"])
    return record.get("file_name")


def _of_url(url: str) -> str:
    return "/".join(urlsplit(url).path.split("/")[-2:])


def listed_pictures(annotations: Path, images: Path) -> list[Path]:
    """Return the pictures of a COCO file, by a search for their names alone; none if the file cannot be read."""
    try:
        with annotations.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            names = [_unescaped(match[1]) for match in FILE_NAME.finditer(content)]
            names = names or [_of_url(_unescaped(match[1])) for match in URL.finditer(content)]
    except (OSError, ValueError):  # ValueError: an empty file
        return []
    pictures = Pictures(annotations, images, [{"file_name": name} for name in names])
    return [pictures.find(name) for name in names]


def _unescaped(name: bytes) -> str:
    try:
        return str(json.loads(b'"%s"' % name))
    except ValueError:
        return name.decode("utf-8", "replace")


def _last(name: str) -> str:
    return same_case(PureWindowsPath(name).name)

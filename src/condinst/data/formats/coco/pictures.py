"""Which file a COCO record means: programs write the name alone, or a path that holds on their own machine only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PureWindowsPath
from typing import Any


class Pictures:
    """Finds the files of the records of `annotations` in the folder `images`."""

    def __init__(self, annotations: Path, images: Path, records: Iterable[Any]) -> None:
        self.images = images
        self.beside = annotations.parent
        stated = [record.get("file_name") for record in records if isinstance(record, dict)]
        self._last = Counter(_last(name) for name in stated if isinstance(name, str))

    def find(self, name: str) -> Path:
        """The file of that name in the folder; where there is none, from the annotation file's folder on, or that of
        the last part of the path, if no other record ends alike. As the name says where it is nowhere."""
        expected = self.images / name
        if expected.is_file():
            return expected
        # written on Windows, a path has its strokes
        path = PureWindowsPath(name).as_posix()
        places = [self.images / path, self.beside / path]
        places += [self.images / _last(name)] if self._last[_last(name)] == 1 else []
        return next((place for place in places if place.is_file()), expected)


def _last(name: str) -> str:
    return PureWindowsPath(name).name

"""The finished tiles of a picture in a file, so that a later run continues after them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Self

from condinst.errors import CondinstError
from condinst.inference.tiles.merge import Find
from condinst.ops.bitmaps.rle import Region, Rle, decode_region, encode

FORMAT = 1  # of the lines; another number starts anew


class TileJournal:
    """The instances of each finished tile, one line of JSON for each tile. The first line is the key.

    path: the file. key: text on everything that the instances depend on. A file with another key is written anew. A
    line that was not written completely does not count.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self._start = json.dumps({"format": FORMAT, "key": sha256(key.encode()).hexdigest()})
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def finished(self) -> Iterator[list[Find]]:
        """Yield the instances of the finished tiles in order, then prepare the file for further tiles.

        Raises CondinstError if the file cannot be read or written.
        """
        good = 0
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.is_file():
                with self.path.open("rb") as lines:
                    for number, line in enumerate(lines):
                        if not line.endswith(b"\n") or (number == 0 and line != self._start.encode() + b"\n"):
                            break
                        finds = [] if number == 0 else _read(line)
                        if finds is None:
                            break
                        good += len(line)
                        if number:
                            yield finds
            self._file = self.path.open("r+b" if good else "wb")
            self._file.truncate(good)
            self._file.seek(good)
            if not good:
                self._write(self._start)
        except OSError as error:
            raise self._failed(error) from None

    def add(self, finds: Sequence[Find]) -> None:
        """Write the instances of the next tile. Raises CondinstError if the file cannot be written."""
        try:
            self._write(json.dumps([_as_json(find) for find in finds], separators=(",", ":")))
        except OSError as error:
            raise self._failed(error) from None

    def remove(self) -> None:
        """Delete the file, and its folder if no other file is left."""
        self.__exit__()
        self.path.unlink(missing_ok=True)
        try:
            self.path.parent.rmdir()
        except OSError:  # another picture has a file there
            return

    def _write(self, line: str) -> None:
        assert self._file is not None
        self._file.write(line.encode() + b"\n")
        self._file.flush()

    def _failed(self, error: OSError) -> CondinstError:
        return CondinstError(f"{self.path}: finished tiles cannot be kept ({error.strerror or error})")


def _as_json(find: Find) -> list[Any]:
    bitmap, x, y = find.region
    rle = encode(Region(bitmap, 0, 0), *bitmap.shape)
    return [x, y, *bitmap.shape, rle["counts"], find.box, find.score, find.label]


def _read(line: bytes) -> list[Find] | None:
    """The instances of a line, or None for a damaged line."""
    try:
        return [_find(values) for values in json.loads(line)]
    except (ValueError, TypeError, KeyError, IndexError):
        return None


def _find(values: list[Any]) -> Find:
    x, y, height, width, counts, box, score, label = values
    whole = Rle(size=[height, width], counts=counts)
    bitmap, left, top = decode_region(whole)
    x0, y0, x1, y1 = box
    return Find(Region(bitmap, x + left, y + top), (x0, y0, x1, y1), score, label)

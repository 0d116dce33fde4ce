"""A large picture that stays in its file: the tiles of it are read when their turn comes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from condinst.data.pictures.image import FIRST_PAGE, Reading
from condinst.data.pictures.values import Remark
from condinst.data.pictures.windows.pixels import Windows
from condinst.data.sample import Array8


class LargePicture(NamedTuple):
    """A picture that is not decoded as a whole. The fields are those of `Picture`, but `file` replaces the pixels."""

    file: Windows
    path: Path
    name: str
    remarks: tuple[Remark, ...] = ()
    reading: Reading = FIRST_PAGE

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.file.size

    def part(self, left: int, top: int, right: int, bottom: int) -> Array8:
        """The pixels of a window: (bottom − top, right − left, 3) uint8 RGB. Raises DataError for a damaged file."""
        return self.file.part(left, top, right, bottom)

    def close(self) -> None:
        """Close the file."""
        self.file.close()

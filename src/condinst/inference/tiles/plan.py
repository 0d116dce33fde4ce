"""Where the tiles of a picture lie."""

from __future__ import annotations

import math
from typing import NamedTuple

from condinst.errors import UsageError
from condinst.settings.prediction import SMALLEST_TILE


class Window(NamedTuple):
    """A rectangle of a picture, in pixels."""

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """The first column after the window."""
        return self.x + self.width

    @property
    def bottom(self) -> int:
        """The first row after the window."""
        return self.y + self.height

    def common(self, other: Window) -> Window | None:
        """The rectangle that both windows hold, or None."""
        x, y = max(self.x, other.x), max(self.y, other.y)
        width, height = min(self.right, other.right) - x, min(self.bottom, other.bottom) - y
        return Window(x, y, width, height) if width > 0 and height > 0 else None


def overlap_pixels(tile: int, overlap: float) -> int:
    """The pixels that neighbouring tiles share. overlap: below 1 a part of the tile's side, otherwise pixels.

    Raises UsageError for a tile below SMALLEST_TILE, and for an overlap that is negative or more than half of the tile.
    """
    if tile < SMALLEST_TILE:
        raise UsageError(f"tile: expected at least {SMALLEST_TILE} pixels, got {tile}")
    shared = round(overlap * tile) if overlap < 1 else round(overlap)
    if not 0 <= shared <= tile // 2:
        raise UsageError(
            f"overlap: expected a part of the tile from 0 to 0.5, or at most half of its {tile} pixels, got {overlap:g}"
        )
    return shared


def plan_windows(height: int, width: int, tile: int, shared: int) -> list[list[Window]]:
    """The rows of windows that cover a picture of (height, width) pixels.

    Each window is `tile` pixels high and wide, or as high or wide as a smaller picture. Neighbours share at least
    `shared` pixels, see `overlap_pixels`. The windows are evenly spread and do not reach beyond the picture.
    """
    columns, rows = _starts(width, tile, shared), _starts(height, tile, shared)
    return [[Window(x, y, min(tile, width), min(tile, height)) for x in columns] for y in rows]


def count_windows(height: int, width: int, tile: int, shared: int) -> int:
    """The number of windows that `plan_windows` returns."""
    return _count(height, tile, shared) * _count(width, tile, shared)


def _count(length: int, tile: int, shared: int) -> int:
    return 1 if length <= tile else math.ceil((length - shared) / (tile - shared))


def _starts(length: int, tile: int, shared: int) -> list[int]:
    """The first pixel of each window along one side."""
    if length <= tile:
        return [0]
    count = _count(length, tile, shared)
    return [round(index * (length - tile) / (count - 1)) for index in range(count)]

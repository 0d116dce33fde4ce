"""Whether a picture is cut into tiles, how large they are, and at which scale the network sees them."""

from __future__ import annotations

from typing import NamedTuple

from condinst.config import Config
from condinst.data.transforms import input_shape
from condinst.errors import TooLargeError
from condinst.inference.tiles.plan import Window, count_windows, overlap_pixels, plan_windows
from condinst.settings.prediction import SMALLEST_TILE, InputConfig
from condinst.structures import STRIDES

SHRUNK = 0.8  # of the scale of the training picture that was shrunk most: above it, the picture is like those
LEAST_SIDE = STRIDES[0]  # pixels of the network's input: objects below the finest stride have no location of their own


class Tiling(NamedTuple):
    """The tiles of one picture.

    rows: the windows, row by row. tile: pixels of a side. scale: pixels of the network's input for each pixel of the
    picture, or None for the model's usual size of pictures. reason: why the picture is cut, for the user.
    """

    rows: list[list[Window]]
    tile: int
    scale: float | None
    reason: str

    @property
    def total(self) -> int:
        """The number of windows."""
        return sum(len(row) for row in self.rows)


def choose_tiling(height: int, width: int, size: InputConfig, most: int | None = None) -> Tiling | None:
    """The tiles of a picture of (height, width) pixels, or None for a picture that the network sees as a whole.

    With `size.tile` "auto", a picture is cut if it is shrunk clearly more than any training picture, and so far that
    the small objects of the training pictures would be below the finest stride. most: the largest number of tiles.
    Raises UsageError for an overlap that does not fit the tile, TooLargeError for more tiles than `most`.
    """
    if size.tile == "off":
        return None
    seen = size.seen
    if isinstance(size.tile, int):
        tile, reason = size.tile, ""
    elif seen is None:
        return None
    else:
        rows, _ = input_shape(height, width, size)
        shown = rows / height
        side = seen.small_side * shown / seen.scale
        if shown >= SHRUNK * seen.least_scale or side >= LEAST_SIDE:
            return None
        tile = max(round(size.shorter / seen.scale), SMALLEST_TILE)
        reason = f"small objects like those in training would have {side:.2g} pixels in the whole picture; "
    shared = overlap_pixels(tile, size.overlap)
    if max(height, width) <= tile:
        return None
    count = count_windows(height, width, tile, shared)
    if most is not None and count > most:
        raise TooLargeError(
            f"{width}×{height} pixels need {count:,} tiles of {tile}×{tile} pixels, over the limit of {most:,} tiles; "
            "choose larger tiles, or tile=off"
        )
    scale = None if seen is None else seen.scale
    return Tiling(plan_windows(height, width, tile, shared), tile, scale, reason)


def tile_config(config: Config, tiling: Tiling) -> Config:
    """The settings for a tile: one window, seen at the scale of the tiling."""
    return config.model_copy(update={"input": tile_input(config.input, tiling)})


def tile_input(size: InputConfig, tiling: Tiling) -> InputConfig:
    """The size at which the network sees a tile."""
    size = size.model_copy(update={"tile": "off"})
    if tiling.scale is not None and not size.stretch:
        window = tiling.rows[0][0]
        sides = sorted(max(round(side * tiling.scale), 1) for side in (window.height, window.width))
        # one more pixel, so that rounding of the longer side does not decide the scale
        size = size.model_copy(update={"shorter": sides[0], "longer": sides[1] + 1})
    return size

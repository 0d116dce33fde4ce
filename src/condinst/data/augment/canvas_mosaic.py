"""The mosaic of YOLOX and RTMDet: four pictures on a canvas, which is then resized and cropped as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from condinst.data.augment.compose import Colour, Scene
from condinst.data.sample import Array8, Box, Matrix, Sample
from condinst.data.shown import Shown, move_shown, show
from condinst.data.transforms import draw_factor, finish, resize_part, then
from condinst.settings.prediction import Resampling
from condinst.settings.training import AugmentConfig

Rectangle = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels
Picture = tuple[Array8, Sample]


class View(NamedTuple):
    """The part of the resized canvas that the crop shows, in pixels of the resized canvas.

    scale: size of the resized canvas over that of the canvas. side: of the square crop.
    """

    scale: float
    left: int
    top: int
    side: int


class Tile(NamedTuple):
    """A picture on the canvas.

    area: its visible part, in pixels of the crop. matrix: (2, 3), from the picture to the crop.
    """

    sample: Sample
    area: Rectangle
    matrix: Matrix


def make_canvas_mosaic(
    pictures: Sequence[Picture], config: AugmentConfig, fill: Colour, resampling: Resampling, rng: np.random.Generator
) -> Scene:
    """Draw four pictures, each with its objects, as `config` says and `rng` draws.

    The canvas is a square of twice the side s = `config.longer`. Each picture is fitted into s × s, and the four touch
    a point between s/2 and 3s/2. The canvas is resized by the jitter, cropped to `config.crop`, recoloured, flipped and
    turned. Each picture is resized once, straight to the size that it has at the end.
    """
    side = config.longer
    centre_x, centre_y = (int(rng.uniform(0.5, 1.5) * side) for _ in range(2))
    view = _draw_view(config, rng)
    canvas = Image.new("RGB", (view.side, view.side), fill)
    tiles: list[Tile] = []
    for number, (image, sample) in enumerate(pictures):
        lower, right = divmod(number, 2)
        width, height = _fit(image, side)
        x, y = centre_x if right else centre_x - width, centre_y if lower else centre_y - height
        tile = _place(image, sample, (x, y, x + width, y + height), view)
        if tile is not None:
            canvas.paste(_resized(image, tile, resampling), tile.area[:2])
            tiles.append(tile)
    done = finish(canvas, np.eye(2, 3), config, rng)
    things = tuple(thing for tile in tiles for thing in _show(tile, done.matrix))
    return Scene(done.image, things, tuple(sample.path for _, sample in pictures))


def _draw_view(config: AugmentConfig, rng: np.random.Generator) -> View:
    whole = max(int(2 * config.longer * draw_factor(config, rng)), 1)
    side = min(config.crop, whole)
    left, top = (int(rng.integers(whole - side + 1)) for _ in range(2))
    return View(whole / (2 * config.longer), left, top, side)


def _fit(image: Array8, side: int) -> tuple[int, int]:
    """Return the (width, height) of the picture in a square, rounded down as published."""
    height, width = image.shape[:2]
    scale = min(side / height, side / width)
    return max(int(width * scale), 1), max(int(height * scale), 1)


def _place(image: Array8, sample: Sample, place: Rectangle, view: View) -> Tile | None:
    """Return the picture at `place` on the canvas as the crop shows it, or None if nothing is visible."""
    x0, y0, x1, y1 = (
        round(edge * view.scale) - start for edge, start in zip(place, (view.left, view.top) * 2, strict=True)
    )
    area = max(x0, 0), max(y0, 0), min(x1, view.side), min(y1, view.side)
    if area[0] >= area[2] or area[1] >= area[3]:
        return None
    height, width = image.shape[:2]
    return Tile(sample, area, np.array([[(x1 - x0) / width, 0, x0], [0, (y1 - y0) / height, y0]], dtype=np.float64))


def _resized(image: Array8, tile: Tile, resampling: Resampling) -> Image.Image:
    left, top, right, bottom = tile.area
    (scale_x, _, x), (_, scale_y, y) = tile.matrix.tolist()
    box: Box = ((left - x) / scale_x, (top - y) / scale_y, (right - x) / scale_x, (bottom - y) / scale_y)
    return resize_part(image, box, bottom - top, right - left, resampling)


def _show(tile: Tile, finished: Matrix) -> list[Shown]:
    """Return the visible objects. finished: (2, 3), from the crop to the picture that is flipped and turned."""
    x0, y0, x1, y1 = tile.area
    corners = np.array([[x0, y0], [x1, y1]]) @ finished[:, :2].T + finished[:, 2]
    (left, top), (right, bottom) = corners.min(axis=0).astype(int).tolist(), corners.max(axis=0).astype(int).tolist()
    matrix = then([[1, 0, -left], [0, 1, -top]], then(finished, tile.matrix))
    return [move_shown(thing, left, top) for thing in show(tile.sample, matrix, bottom - top, right - left)]

"""Mixes two pictures half and half (mixup, arXiv 1710.09412, as YOLOX and RTMDet train with it)."""

from __future__ import annotations

import numpy as np

from condinst.data.augment.compose import Colour, Scene
from condinst.data.sample import Array8
from condinst.data.shown import Shown
from condinst.ops.bitmaps.rle import Region


def mix(one: Scene, other: Scene, least: int, fill: Colour, mirrored: bool) -> Scene:
    """Return the mean of two pictures, rounded down, with the objects of both.

    Both are padded right and bottom with `fill` to the larger height and width, and at least to `least` pixels.
    mirrored: flip the padded `other` horizontally.
    """
    pictures = one.image, other.image
    height, width = (max(least, *(picture.shape[axis] for picture in pictures)) for axis in (0, 1))
    first, second = (_padded(picture, height, width, fill) for picture in pictures)
    things = other.things
    if mirrored:
        second, things = second[:, ::-1], tuple(_mirror(thing, width) for thing in things)
    image = ((first.astype(np.uint16) + second) >> 1).astype(np.uint8)
    return Scene(image, (*one.things, *things), (*one.paths, *other.paths))


def _padded(image: Array8, height: int, width: int, fill: Colour) -> Array8:
    canvas = np.full((height, width, 3), fill, dtype=np.uint8)
    canvas[: image.shape[0], : image.shape[1]] = image
    return canvas


def _mirror(thing: Shown, width: int) -> Shown:
    """Return the object of a picture of `width` pixels that is flipped horizontally."""
    x0, y0, x1, y1 = thing.box
    bitmap, x, y = thing.region
    return thing._replace(
        box=(width - x1, y0, width - x0, y1),
        region=Region(bitmap[:, ::-1], width - x - bitmap.shape[1], y),
        centroid=(width - 1 - thing.centroid[0] if thing.has_mask else width - thing.centroid[0], thing.centroid[1]),
    )

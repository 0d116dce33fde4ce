"""Small pictures of the findings: the object with its outline, or the whole picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from condinst.data.pictures.image import read_image
from condinst.data.pictures.values import NoRangeError
from condinst.data.sample import Array8, Box, Instance, Polygons, Sample
from condinst.data.shapes import filled
from condinst.errors import DataError
from condinst.ops.bitmaps.contours import trace
from condinst.ops.drawing.palette import PALETTE
from condinst.ops.drawing.sheet import to_jpeg

LONGEST = 400  # pixels of a picture on the page
LEAST_SEEN = 48  # pixels of the original around a small object
MOST_OUTLINES = 400  # in one picture
LARGEST_JPEG = 60_000  # bytes
GREY = (96, 96, 96)  # beyond the picture's edge

Points = NDArray[np.float64]  # (P, 2)


def show_object(sample: Sample, instance: Instance, box: bool) -> bytes | None:
    """Return a JPEG of the object and its surroundings, or None if the file cannot be read.

    The outline is yellow. The box, if wanted, is blue.
    """
    x0, y0, x1, y1 = instance.box
    centre = ((x0 + x1) / 2, (y0 + y1) / 2)
    half = max(x1 - x0, y1 - y0, LEAST_SEEN) * 0.8
    # an object far outside must not shrink the picture to a dot
    half = min(half, 0.75 * max(sample.width, sample.height))
    centre = min(max(centre[0], 0), sample.width), min(max(centre[1], 0), sample.height)
    margin = 0.1 * half  # grey pixels where the window reaches beyond picture and object
    window = (
        max(centre[0] - half, min(x0, 0) - margin),
        max(centre[1] - half, min(y0, 0) - margin),
        min(centre[0] + half, max(x1, sample.width) + margin),
        min(centre[1] + half, max(y1, sample.height) + margin),
    )
    return _show(sample, window, [instance], [instance.box] if box else [])


def show_picture(sample: Sample) -> bytes | None:
    """Return a JPEG of the whole picture with outlined objects; None if the file cannot be read."""
    window = (0.0, 0.0, float(sample.width), float(sample.height))
    return _show(sample, window, sample.instances[:MOST_OUTLINES], [])


def _read(path: Path) -> Array8:
    """Convert a picture for people.

    Floats have no fixed range, so the darkest value becomes black and the brightest value becomes white.
    """
    try:
        return read_image(path)
    except NoRangeError:
        return read_image(path, range="auto")


def _show(sample: Sample, window: Box, instances: Sequence[Instance], boxes: Sequence[Box]) -> bytes | None:
    try:
        image = _read(sample.path)
    except DataError:
        return None
    left, top, right, bottom = (round(side) for side in window)
    scale = LONGEST / max(right - left, bottom - top)
    size = max(round((right - left) * scale), 1), max(round((bottom - top) * scale), 1)
    canvas = _window(image, left, top, right, bottom).resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(canvas)
    rings = [(ring, PALETTE[(2 + i) % len(PALETTE)]) for i, it in enumerate(instances) for ring in outlines(it)]
    for ring, colour in [*rings, *((_corners(box), PALETTE[1]) for box in boxes)]:
        line = [((x - left) * scale, (y - top) * scale) for x, y in [*ring.tolist(), ring[0].tolist()]]
        draw.line(line, fill=(0, 0, 0), width=4, joint="curve")  # a dark rim is visible on any colour
        draw.line(line, fill=colour, width=2, joint="curve")
    return to_jpeg(canvas, LARGEST_JPEG)


def outlines(instance: Instance) -> list[Points]:
    """Return closed lines: polygons as annotated, masks along their pixels, or the box."""
    if isinstance(instance.shape, Polygons):
        return list(instance.shape.parts)
    if instance.shape is None:
        return [_corners(instance.box)]
    polygons = trace(instance.shape.decode(), instance.shape.x, instance.shape.y)
    return [ring for outer, holes in polygons for ring in (outer, *holes)]


def _corners(box: Box) -> Points:
    return filled(box).parts[0]


def _window(image: Array8, left: int, top: int, right: int, bottom: int) -> Image.Image:
    """Return that part of the picture, with grey beyond its edge."""
    height, width = image.shape[:2]
    canvas = Image.new("RGB", (right - left, bottom - top), GREY)
    inside = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    if inside[0] < inside[2] and inside[1] < inside[3]:
        part = image[inside[1] : inside[3], inside[0] : inside[2]]
        canvas.paste(Image.fromarray(part), (inside[0] - left, inside[1] - top))
    return canvas

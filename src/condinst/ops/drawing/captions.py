"""Captions of instances: their size, their place in the picture, and how they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from PIL import ImageDraw

from condinst.ops.drawing.fonts import Font, font_for
from condinst.ops.drawing.palette import Colour, ink_on

Place = tuple[float, float, float, float]  # x0, y0, x1, y1


class Caption(NamedTuple):
    """Text on a filled rectangle.

    size: (width, height) of the rectangle in pixels. offset: (x, y) of the text, from the top left of the rectangle.
    """

    text: str
    font: Font
    offset: tuple[float, float]
    size: tuple[float, float]


def make_caption(draw: ImageDraw.ImageDraw, text: str, font_size: int) -> Caption:
    """Make a caption of `text` in letters of `font_size` pixels, with a margin around it."""
    font, text = font_for(text, font_size)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    _, high, _, low = draw.textbbox((0, 0), "Ag", font=font)  # the same height for every caption
    top, bottom = min(top, high), max(bottom, low)
    pad = max(2, round((bottom - top) / 4))
    return Caption(text, font, (pad - left, pad - top), (right - left + 2 * pad, bottom - top + 2 * pad))


def fits(box: Sequence[float], caption: Caption) -> bool:
    """Return whether an instance with this box is large enough, so the caption neither hides it nor is much wider."""
    width, height = box[2] - box[0], box[3] - box[1]
    return min(width, height) >= 1.5 * caption.size[1] and width >= 0.7 * caption.size[0]


def free_place(box: Sequence[float], caption: Caption, canvas: tuple[int, int], taken: Sequence[Place]) -> Place | None:
    """A place for the caption inside the picture that overlaps no other caption, or None.

    The function tries places above the box, in its corners, below it and at its middle. canvas: (width, height).
    taken: the places of other captions.
    """
    width, height = caption.size
    left, right = box[0], box[2] - width
    rows = (box[1] - height, box[1], box[3] - height, box[3], (box[1] + box[3] - height) / 2)
    for y in rows:
        for x in (left, right):
            x = min(max(x, 0), canvas[0] - width)
            if x < 0 or y < 0 or y + height > canvas[1]:
                continue
            if all(x >= b[2] or x + width <= b[0] or y >= b[3] or y + height <= b[1] for b in taken):
                return x, y, x + width, y + height
    return None


def write_caption(draw: ImageDraw.ImageDraw, caption: Caption, place: Place, colour: Colour) -> None:
    """Draw the caption in black or white on a rectangle of the instance's colour."""
    draw.rounded_rectangle(place, radius=max(2, round(caption.size[1] / 6)), fill=colour)
    at = (place[0] + caption.offset[0], place[1] + caption.offset[1])
    draw.text(at, caption.text, fill=ink_on(colour), font=caption.font)

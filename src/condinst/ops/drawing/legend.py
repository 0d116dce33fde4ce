"""The legend below a picture: each class with its colour and its number of instances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from condinst.ops.drawing.captions import Caption, make_caption
from condinst.ops.drawing.palette import Colour

PAPER, INK = (255, 255, 255), (32, 36, 42)
LONGEST = 40  # longest name in letters
SMALLEST = 9  # smallest font size in pixels in a narrow picture


class Entry(NamedTuple):
    """One class in the legend. colour: None if the class has no colour of its own."""

    name: str
    instances: int
    colour: Colour | None


def add_legend(picture: NDArray[np.uint8], entries: Sequence[Entry], font_size: int) -> NDArray[np.uint8]:
    """Add a white strip with the entries below `picture` (H, W, 3) uint8. The result is (H + strip, W, 3).

    font_size: in pixels; smaller if the widest entry would not fit into a narrow picture.
    """
    width = picture.shape[1]
    captions, font_size = _fit(entries, width, font_size)
    widths = [caption.size[0] + _chip(font_size, entry) for caption, entry in zip(captions, entries, strict=True)]
    rows = _rows(widths, width)
    line = max(caption.size[1] for caption in captions)
    margin = max(2, font_size // 3)
    strip = Image.new("RGB", (width, round(len(rows) * line + 2 * margin)), PAPER)
    draw = ImageDraw.Draw(strip)
    for number, row in enumerate(rows):
        for index, x in row:
            _write(draw, entries[index], captions[index], (x, margin + number * line), font_size)
    return np.concatenate((picture, np.asarray(strip)))


def _fit(entries: Sequence[Entry], width: int, font_size: int) -> tuple[list[Caption], int]:
    """Captions that fit into `width` pixels, and their font size: first in smaller letters, then with shorter names."""
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    size = font_size
    captions = [make_caption(draw, _text(entry, LONGEST), size) for entry in entries]
    while size > SMALLEST and _widest(captions, entries, size) > width:
        size -= 1
        captions = [make_caption(draw, _text(entry, LONGEST), size) for entry in entries]
    length = max(min(len(entry.name), LONGEST) for entry in entries)
    while length > 1 and _widest(captions, entries, size) > width:
        length -= 1
        captions = [make_caption(draw, _text(entry, length), size) for entry in entries]
    return captions, size


def _widest(captions: Sequence[Caption], entries: Sequence[Entry], font_size: int) -> float:
    return max(caption.size[0] + _chip(font_size, entry) for caption, entry in zip(captions, entries, strict=True))


def _text(entry: Entry, longest: int) -> str:
    name = entry.name if len(entry.name) <= longest else entry.name[: longest - 1] + "…"
    return f"{name} ({entry.instances})"


def _chip(font_size: int, entry: Entry) -> int:
    """The width of the coloured square and the gap after it, in pixels."""
    return 0 if entry.colour is None else round(1.1 * font_size)


def _rows(widths: Sequence[float], width: int) -> list[list[tuple[int, float]]]:
    """Arrange the entries in as many columns of equal width as fit: rows of (index, x)."""
    column = min(max(widths), width)
    columns = max(1, int(width // column))
    places = [(index, (index % columns) * (width / columns)) for index in range(len(widths))]
    return [places[first : first + columns] for first in range(0, len(places), columns)]


def _write(draw: ImageDraw.ImageDraw, entry: Entry, caption: Caption, at: tuple[float, float], font_size: int) -> None:
    x, y = at
    if entry.colour is not None:
        side, gap = round(0.8 * font_size), (caption.size[1] - round(0.8 * font_size)) / 2
        left = x + caption.offset[0]
        draw.rectangle((left, y + gap, left + side, y + gap + side), fill=entry.colour, outline=INK)
    draw.text((x + _chip(font_size, entry) + caption.offset[0], y + caption.offset[1]), caption.text, INK, caption.font)

"""Arrange pictures in rows and columns with captions, and encode them."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

GAP, LINE = 8, 22  # pixels: gap between pictures, height of a caption
QUALITIES = (90, 80, 70, 60, 50)


def fit_within(image: Image.Image, width: int, height: int) -> Image.Image:
    """A copy that fits into `width` × `height` pixels. It keeps its proportions and is never enlarged."""
    smaller = image.copy()
    smaller.thumbnail((width, height), Image.Resampling.LANCZOS)
    return smaller


def join(panels: Sequence[Image.Image], captions: Sequence[str] = ()) -> Image.Image:
    """Pictures side by side on white, with captions above them."""
    top = LINE if captions else 0
    width = sum(panel.width + GAP for panel in panels) - GAP
    canvas = Image.new("RGB", (width, max(panel.height for panel in panels) + top), "white")
    draw, left = ImageDraw.Draw(canvas), 0
    for index, panel in enumerate(panels):
        canvas.paste(panel, (left, top))
        if captions:
            _write(draw, captions[index], (left, 2), panel.width)
        left += panel.width + GAP
    return canvas


def stack(rows: Sequence[Image.Image]) -> Image.Image:
    """Pictures one below another on white."""
    height = sum(row.height + GAP for row in rows) - GAP
    canvas, top = Image.new("RGB", (max(row.width for row in rows), height), "white"), 0
    for row in rows:
        canvas.paste(row, (0, top))
        top += row.height + GAP
    return canvas


def to_jpeg(image: Image.Image, largest: int, qualities: Sequence[int] = QUALITIES) -> bytes:
    """A JPEG file of at most `largest` bytes in the best of the given qualities; the last one if all are larger."""
    content = b""
    for quality in qualities:
        content = _encode(image, "JPEG", quality=quality, optimize=True)
        if len(content) <= largest:
            break
    return content


def to_png(image: Image.Image) -> bytes:
    """A PNG file with the strongest compression."""
    return _encode(image, "PNG", optimize=True)


def _write(draw: ImageDraw.ImageDraw, text: str, place: tuple[int, int], width: int) -> None:
    """Write text in the largest font that fits into `width` pixels."""
    fonts = [ImageFont.load_default(size=size) for size in range(15, 7, -1)]
    font = next((font for font in fonts if draw.textlength(text, font=font) <= width), fonts[-1])
    draw.text(place, text, fill="black", font=font)


def _encode(image: Image.Image, kind: str, **options: int | bool) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()

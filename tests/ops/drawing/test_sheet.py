"""Sheets of pictures: sizes, positions and the size limits of files."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from condinst.ops.drawing.sheet import GAP, LINE, fit_within, join, stack, to_jpeg, to_png


def plain_panel(width: int, height: int, colour: str) -> Image.Image:
    return Image.new("RGB", (width, height), colour)


def test_beside_and_below() -> None:
    row = join([plain_panel(10, 20, "red"), plain_panel(30, 5, "blue")], ["one", "two"])
    assert row.size == (10 + GAP + 30, 20 + LINE)
    assert row.getpixel((5, LINE + 10)) == (255, 0, 0)
    assert row.getpixel((10 + GAP + 5, LINE + 2)) == (0, 0, 255)
    sheet = stack([row, plain_panel(70, 9, "lime")])
    assert sheet.size == (70, row.height + GAP + 9)
    assert sheet.getpixel((60, row.height + GAP + 4)) == (0, 255, 0)


def test_never_enlarged() -> None:
    assert fit_within(plain_panel(10, 20, "red"), 100, 100).size == (10, 20)
    assert fit_within(plain_panel(100, 200, "red"), 50, 50).size == (25, 50)


def test_files() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8))
    best, small = to_jpeg(noise, 10**9), to_jpeg(noise, 30_000)
    assert len(small) <= 30_000 < len(best)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(to_png(noise)))), np.asarray(noise))

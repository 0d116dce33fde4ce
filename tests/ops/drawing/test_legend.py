"""The legend below a picture: nothing of it is cut off."""

import numpy as np
import pytest

from condinst.ops.drawing.legend import PAPER, Entry, add_legend

LONG = "a very long class name that somebody typed into an annotation tool"
ENTRIES = [Entry("cat", 3, (255, 0, 0)), Entry(LONG, 1234, (0, 0, 255))]


@pytest.mark.parametrize("width", [60, 100, 200, 350, 640, 3000])
@pytest.mark.parametrize("font_size", [12, 51])
@pytest.mark.parametrize("coloured", [True, False])
def test_every_entry_fits_into_the_width(width: int, font_size: int, coloured: bool) -> None:
    entries = ENTRIES if coloured else [entry._replace(colour=None) for entry in ENTRIES]
    picture = np.zeros((20, width, 3), dtype=np.uint8)
    strip = add_legend(picture, entries, font_size)[20:]
    assert strip.shape[1] == width
    assert (strip[:, -1] == PAPER).all()  # no letter touches the right edge
    inked = (strip != PAPER).any(axis=2)
    assert inked.any(axis=1).sum() > 8
    assert inked.sum() > 100


def test_wide_pictures_keep_the_font_size() -> None:
    picture = np.zeros((20, 3000, 3), dtype=np.uint8)
    heights = {size: add_legend(picture, ENTRIES, size).shape[0] for size in (12, 24)}
    assert heights[24] > 1.5 * heights[12] - 20

"""Objects turn as Pillow turns the picture they were drawn on."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from condinst.data.sample import Instance, Polygons, RunLengths
from condinst.data.upright import turn_upright
from condinst.ops.bitmaps.rle import decode

WIDTH, HEIGHT = 13, 9


def upright(mask: np.ndarray, orientation: int) -> np.ndarray:
    picture = Image.fromarray(mask.astype(np.uint8))
    picture.getexif()[0x0112] = orientation
    return np.asarray(ImageOps.exif_transpose(picture)).astype(bool)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_and_polygons_turn_with_the_picture(orientation: int) -> None:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[2:6, 3:10] = np.random.default_rng(0).random((4, 7)) > 0.4
    mask[2, 3] = mask[5, 9] = True
    wanted = upright(mask, orientation)
    runs = Instance(0, (3, 2, 10, 6), RunLengths.of(mask[2:6, 3:10], 3, 2), False, 1)
    turned = turn_upright(runs, orientation, WIDTH, HEIGHT)
    assert isinstance(turned.shape, RunLengths)
    assert np.array_equal(decode(turned.shape.whole(*wanted.shape)), wanted)
    rows, columns = np.flatnonzero(wanted.any(1)), np.flatnonzero(wanted.any(0))
    assert turned.box == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)

    square = np.zeros((HEIGHT, WIDTH), dtype=bool)
    square[2:6, 3:10] = True
    polygon = Polygons((np.array([[3, 2], [10, 2], [10, 6], [3, 6]], dtype=np.float64),))
    drawn = turn_upright(Instance(0, (3, 2, 10, 6), polygon, False, 1), orientation, WIDTH, HEIGHT)
    assert isinstance(drawn.shape, Polygons)
    assert np.array_equal(decode(drawn.shape.whole(*wanted.shape)), upright(square, orientation))

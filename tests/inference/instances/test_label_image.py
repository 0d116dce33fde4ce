"""The label image in bands and in the tiles of a file: the same numbers as those of the whole."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from condinst.cli.results.formats import Format, Saved
from condinst.inference.instances import pixels
from condinst.inference.instances.boxes import Boxes
from condinst.inference.instances.label_image import label_bands, label_image, tiled_tiff
from condinst.inference.instances.masks import Masks
from condinst.inference.result import Result
from condinst.ops.bitmaps.rle import Region, encode

HEIGHT, WIDTH = 1100, 1300  # more than two tiles of 512 pixels in each direction


def crowd(count: int) -> Result:
    """Instances of random places, sizes and scores that lie over each other; the last one is empty."""
    random = np.random.default_rng(0)
    rles = []
    for at in range(count):
        y, x = random.integers(0, HEIGHT - 300), random.integers(0, WIDTH - 300)
        h, w = (0, 0) if at == count - 1 else random.integers(1, 300, 2)
        rles.append(encode(Region(random.random((h, w)) < 0.8, int(x), int(y)), HEIGHT, WIDTH))
    scores = torch.from_numpy(random.integers(0, 9, count) / 10)
    boxes = Boxes(torch.zeros(count, 4), scores, torch.zeros(count, dtype=torch.int64), (HEIGHT, WIDTH))
    return Result(boxes, Masks(tuple(rles), (HEIGHT, WIDTH)), {0: "a"}, (HEIGHT, WIDTH))


@pytest.mark.parametrize("rows", [64, 100, 512, HEIGHT, 5000])
def test_bands_are_the_whole(rows: int) -> None:
    result = crowd(60)
    bands = list(label_bands(result, rows))
    assert {len(band) for band in bands[:-1]} <= {rows}
    np.testing.assert_array_equal(np.concatenate(bands), label_image(result))


@pytest.mark.parametrize("count", [0, 1, 60])
def test_the_file_in_tiles_has_the_same_pixels(count: int) -> None:
    tifffile = pytest.importorskip("tifffile")
    result = crowd(count)
    with tifffile.TiffFile(io.BytesIO(tiled_tiff(result))) as file:
        assert file.pages[0].is_tiled
        found = file.asarray()
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, label_image(result))


def test_a_large_picture_gets_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile = pytest.importorskip("tifffile")
    formats = Saved(frozenset({Format.label_image}), overlay="")
    for large in (HEIGHT * WIDTH + 1, HEIGHT * WIDTH):
        monkeypatch.setattr(pixels, "LARGE", large)
        (file,) = formats.files(crowd(5), "a")
        with tifffile.TiffFile(io.BytesIO(file.make())) as tiff:
            assert tiff.pages[0].is_tiled == (large == HEIGHT * WIDTH)
            np.testing.assert_array_equal(tiff.asarray(), label_image(crowd(5)))

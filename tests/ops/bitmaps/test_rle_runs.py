"""Masks of large images, decoded from their runs alone."""

import numpy as np
import pytest
from pycocotools import mask as oracle

from condinst.ops.bitmaps import rle
from condinst.ops.bitmaps.rle import Region, decode_region, encode, read_counts


def shapes() -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    masks = [
        rng.random((int(h), int(w))) < share for h, w in rng.integers(1, 50, (40, 2)) for share in (0, 0.1, 0.5, 1)
    ]
    bands = [np.zeros((9, 12), np.bool_) for _ in range(3)]
    bands[0][:, 5:] = True  # one run over several columns
    bands[1][4:, 3] = bands[1][:2, 4] = True  # from the bottom of a column to the top of the next
    bands[2][0, 0] = bands[2][-1, -1] = True
    return masks + bands


def test_counts_are_those_of_pycocotools() -> None:
    for mask in shapes():
        packed = oracle.encode(np.asfortranarray(mask.astype(np.uint8)))
        runs = read_counts(packed["counts"].decode())
        values = np.arange(len(runs)) % 2
        np.testing.assert_array_equal(np.repeat(values, runs), mask.ravel(order="F"))


def test_regions_equal_those_of_small_images(monkeypatch: pytest.MonkeyPatch) -> None:
    for mask in shapes():
        packed = encode(Region(mask, 0, 0), *mask.shape)
        small = decode_region(packed)
        with monkeypatch.context() as patch:
            patch.setattr(rle, "SMALL", 0)
            large = decode_region(packed)
        if not mask.any():
            assert large.bitmap.size == small.bitmap.size == 0
            continue
        assert (large.x, large.y) == (small.x, small.y)
        np.testing.assert_array_equal(large.bitmap, small.bitmap)


def test_a_small_mask_in_a_huge_image_takes_no_bitmap_of_the_image() -> None:
    import tracemalloc

    bitmap = np.random.default_rng(0).random((40, 30)) < 0.7
    bitmap[0, 0] = bitmap[-1, -1] = True
    packed = encode(Region(bitmap, 59_000, 40_000), 60_000, 60_000)
    tracemalloc.start()
    found = decode_region(packed)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(found.bitmap, bitmap)
    assert (found.x, found.y) == (59_000, 40_000)
    assert peak < 2_000_000

"""Rims of masks against taking the outermost pixels off one layer at a time."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from condinst.ops.boundary import rim, rim_depth, shrink
from condinst.ops.rle import Region, decode, encode


def peeled(mask: np.ndarray, depth: int) -> np.ndarray:
    inside = np.pad(mask, 1)
    for _ in range(depth):
        neighbours = [np.roll(inside, (down, right), (0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1)]
        inside = np.logical_and.reduce(neighbours)
    return inside[1:-1, 1:-1]


def blobs(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(3, 60, 2)
    noise = Image.fromarray(rng.integers(0, 256, (height, width), dtype=np.uint8))
    smooth = np.asarray(noise.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.5, 4)))))
    return smooth > np.quantile(smooth, rng.uniform(0.1, 0.7))


@pytest.mark.parametrize("seed", range(40))
def test_layers_taken_off(seed: int) -> None:
    mask, depth = blobs(seed), 1 + seed % 5
    expected = peeled(mask, depth)
    assert np.array_equal(shrink(mask, depth), expected)
    found = decode(rim(encode(Region(mask, 0, 0), *mask.shape), depth))
    assert np.array_equal(found, mask & ~expected)


def test_a_region_inside_a_picture() -> None:
    whole = np.zeros((40, 50), dtype=bool)
    whole[5:25, 20:50] = True  # touches the right border, which is an edge too
    found = decode(rim(encode(Region(whole[5:25, 20:], 20, 5), 40, 50), 3))
    assert np.array_equal(found, whole & ~peeled(whole, 3))
    assert not found[8:22, 23:47].any()


def test_empty_and_thin_masks() -> None:
    empty = encode(Region(np.zeros((0, 0), dtype=bool), 0, 0), 9, 9)
    assert rim(empty, 2) == empty
    thin = encode(Region(np.ones((4, 9), dtype=bool), 0, 0), 9, 9)
    assert rim(thin, 2) == thin


def test_two_percent_of_the_diagonal() -> None:
    assert (rim_depth(300, 400), rim_depth(8, 6), rim_depth(1800, 2500)) == (10, 1, 62)

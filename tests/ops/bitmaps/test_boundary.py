"""Rims of masks against removing the outermost pixels layer by layer, and against the definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from condinst.data.formats.coco.read import read_coco
from condinst.ops.bitmaps.boundary import rim, rim_depth, shrink
from condinst.ops.bitmaps.rle import Region, decode, encode

DATA = Path(__file__).parents[2] / "data"


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


def published_rim(mask: np.ndarray, depth: int) -> np.ndarray:
    """The pixels of which some other, at most `depth` away in either direction, is no mask or no longer picture."""
    height, width = mask.shape
    padded, inside = np.pad(mask, depth), mask.copy()
    for down in range(2 * depth + 1):
        for right in range(2 * depth + 1):
            inside &= padded[down : down + height, right : right + width]
    return mask & ~inside


@pytest.mark.parametrize("name", ["coco_mini", "facade", "nuclei"])
def test_boundary_iou_of_real_masks(name: str) -> None:
    """As Cheng et al. define it: the IoU of the rims, whose depth is 2 % of the diagonal."""
    samples = read_coco(DATA / name / "val.json", DATA / name / "images").samples
    differing = 0
    for sample in samples:
        size = (sample.height, sample.width)
        depth = round(0.02 * (size[0] ** 2 + size[1] ** 2) ** 0.5)
        for instance in sample.instances[:5]:
            assert instance.shape is not None
            truth = decode(instance.shape.whole(*size))
            shifted = np.roll(truth, (depth // 2, 1), (0, 1))  # some leave the picture and come back on the other side
            published = [published_rim(mask, depth) for mask in (truth, shifted)]
            rims = [decode(rim(encode(Region(mask, 0, 0), *size), rim_depth(*size))) for mask in (truth, shifted)]
            expected, found = ((a & b).sum() / (a | b).sum() for a, b in (published, rims))
            assert found == expected
            differing += found < (truth & shifted).sum() / (truth | shifted).sum()
    assert differing

"""Noise in pixel masks is found; thin, small and ordinary objects are not noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from condinst.data.findings import Finding
from condinst.data.formats.coco.read import read_coco
from condinst.data.sample import Instance, RunLengths, Sample
from condinst.doctor.checks.shapes import draw
from condinst.doctor.checks.speckle import check_speckle, lone_pixels
from condinst.ops.bitmaps.rle import Region, encode

NUCLEI = Path(__file__).parents[2] / "data" / "nuclei"


def noise(share: float) -> NDArray[np.bool_]:
    return np.random.default_rng(0).random((50, 60)) < share


def findings(mask: NDArray[np.bool_], crowd: bool = False) -> list[Finding]:
    height, width = mask.shape
    instance = Instance(0, (0, 0, width, height), RunLengths.of(mask, 0, 0), crowd, 1)
    sample = Sample(Path("a.png"), 1, width, height, (instance,))
    return list(check_speckle(sample, draw(sample)))


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2, 0.6])
def test_lone_pixels_are_parts_of_one_pixel(share: float) -> None:
    mask = noise(share)
    numbers, count = ndimage.label(mask, np.ones((3, 3)))
    alone = (ndimage.sum(mask, numbers, range(1, count + 1)) == 1).sum()
    assert lone_pixels(encode(Region(mask, 0, 0), *mask.shape)) == alone


def test_noise_is_found() -> None:
    (finding,) = findings(noise(0.05))
    assert (finding.kind, finding.severity) == ("speckled-mask", "warning")
    assert "pixels of its mask touch no other pixel of it" in finding.message
    assert findings(noise(0.05), crowd=True) == []


def test_thin_small_and_ragged_objects_are_no_noise() -> None:
    diagonal = np.eye(50, dtype=bool)
    few = np.zeros((50, 50), dtype=bool)
    few[::20, ::20] = True  # nine pixels
    ragged = ndimage.binary_dilation(noise(0.02), iterations=2)
    for mask in (diagonal, diagonal[::-1], few, ragged, np.ones((9, 9), dtype=bool)):
        assert findings(mask) == []


def test_real_masks_are_no_noise() -> None:
    for split in ("train", "val"):
        for sample in read_coco(NUCLEI / f"{split}.json", NUCLEI / "images").samples:
            assert not list(check_speckle(sample, draw(sample)))

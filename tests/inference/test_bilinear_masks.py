"""Masks of RTMDet-Ins: logits enlarged by plain bilinear interpolation, as whole images and by regions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from condinst.inference import regions as module
from condinst.inference.full_size import Placement, full_size_values, place_full
from condinst.inference.regions import place
from condinst.inference.taps import Axis
from condinst.ops.bitmaps.rle import decode
from tests.inference.test_assemble import maps_of

SIZES = [
    # cells, size inside the padded input, original
    ((16, 24), (61, 90), (122, 180)),
    ((16, 24), (128, 192), (128, 192)),  # the last resize changes nothing
    ((16, 24), (115, 192), (230, 384)),  # twice as large
    ((16, 24), (37, 83), (251, 501)),
    ((16, 24), (120, 187), (23, 31)),  # smaller: most values are skipped
    ((8, 8), (57, 61), (40, 300)),  # the sides scale differently
    ((8, 8), (1, 64), (1, 500)),  # a strip: the exchanged canvas is shorter than the picture
    ((8, 8), (64, 1), (700, 3)),
    ((4, 4), (32, 32), (1, 1)),
]


def formula(logits: Tensor, placement: Placement) -> Tensor:
    """Values in the original image, where it is covered, as mmdetection computes them: every step at full size."""
    height, width = placement.original
    large = F.interpolate(logits[:, None], scale_factor=8, mode="bilinear", align_corners=False)
    if placement.exchanged:
        h_scale, w_scale = placement.size[0] / height, placement.size[1] / width
        canvas = math.ceil(large.shape[2] * (1 / w_scale)), math.ceil(large.shape[3] * (1 / h_scale))
        values = F.interpolate(large, size=canvas, mode="bilinear", align_corners=False)
    else:
        part = large[:, :, : placement.size[0], : placement.size[1]]
        values = F.interpolate(part, size=placement.original, mode="bilinear", align_corners=False)
    return values[:, 0, :height, :width].sigmoid()


def masks_of(logits: Tensor, placement: Placement) -> NDArray[np.bool_]:
    inside = formula(logits, placement) > placement.threshold
    masks = torch.zeros(len(logits), *placement.original, dtype=torch.bool)
    masks[:, : inside.shape[1], : inside.shape[2]] = inside
    return masks.numpy()


@pytest.mark.parametrize("kind", ["blobs", "noise", "steps", "halves", "extremes"])
@pytest.mark.parametrize(("cells", "size", "original"), SIZES)
@pytest.mark.parametrize("exchanged", [False, True])
def test_regions_equal_whole_images(
    kind: str, cells: tuple[int, int], size: tuple[int, int], original: tuple[int, int], exchanged: bool
) -> None:
    maps = maps_of(kind, *cells)
    for threshold in (0.5, 0.3, 0.999):
        placement = Placement(4, size, original, threshold, "bilinear", exchanged)
        expected = masks_of(maps, placement)
        assert np.array_equal(place_full(maps, placement).numpy(), expected)
        assert np.array_equal(np.stack([decode(rle) for rle in place(maps, placement)]), expected)


@pytest.mark.parametrize("exchanged", [False, True])
@pytest.mark.parametrize("original", [(300, 260), (701, 500), (1200, 900), (256, 257), (500, 375)])
def test_close_pixels_are_settled_in_the_same_bits(
    original: tuple[int, int], exchanged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    placement = Placement(4, (500, 375), original, 0.5, "bilinear", exchanged)
    maps = maps_of("noise", 64, 48)[:2]
    expected = formula(maps, placement)
    draw = torch.Generator().manual_seed(0)
    pixels = torch.stack([torch.randint(side, (2000,), generator=draw) for side in expected.shape[1:]], dim=1)
    for logits, values in zip(maps, expected, strict=True):
        for some in pixels.split(37):
            found = full_size_values(logits, placement, some)
            # torch's sigmoid of a few numbers may round differently than that of many
            torch.testing.assert_close(found, values[some[:, 0], some[:, 1]], rtol=0, atol=1.2e-7)
    monkeypatch.setattr(module, "LOGIT_ROUNDING", 1e-3)
    monkeypatch.setattr(module, "CLOSE_PIXELS", 10**9)
    monkeypatch.setattr(module, "place_full", None)  # not needed
    masks = np.stack([decode(rle) for rle in place(maps, placement)])
    assert np.array_equal(masks, masks_of(maps, placement))


def test_bands_and_groups_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    placement = Placement(4, (61, 90), (251, 501), 0.5, "bilinear")
    maps = torch.cat([maps_of(kind, 8, 12) for kind in ("blobs", "noise", "halves", "extremes")])
    expected = masks_of(maps, placement)
    assert np.array_equal(np.stack([decode(rle) for rle in place(maps, placement)]), expected)
    monkeypatch.setattr(module, "GROUP_PIXELS", 1)
    monkeypatch.setattr(module, "BAND_PIXELS", 1500)
    assert np.array_equal(np.stack([decode(rle) for rle in place(maps, placement)]), expected)


def test_taps_are_a_convex_mix() -> None:
    for cells, source, target in ((20, 160, 160), (20, 131, 517), (20, 160, 45), (1, 8, 30)):
        taps = Axis.bilinear(cells, source, target, target).enlarge
        assert (taps.weights >= 0).all()
        assert torch.allclose(taps.weights.sum(dim=1), torch.ones(target), atol=1e-6)
        assert (taps.start.diff() >= 0).all()
        assert taps.weights.shape[1] <= 3

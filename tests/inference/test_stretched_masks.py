"""Masks that are stretched from a map of the whole picture: every way to compute them gives the same bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from condinst.inference.full_size import Placement, full_size_values, place_full
from condinst.inference.regions import SMALL_IMAGE, place
from condinst.ops.bitmaps.rle import decode
from condinst.ops.boxes import box_cells

SIZES = [(422, 640), (640, 427), (1200, 1900), (256, 256), (90, 121), (138, 138), (3000, 40), (1, 700), (7, 5), (61, 9)]


def draw(seed: int, count: int, cells: tuple[int, int]) -> Tensor:
    """Smooth probabilities that are cut to boxes, as YOLACT draws them. The first ones have rows of exact halves."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 1, 9, 9, generator=generator) * 3
    maps = F.interpolate(coarse, cells, mode="bicubic", align_corners=False)[:, 0].sigmoid()
    corners = torch.rand(count, 2, 2, generator=generator).sort(dim=1).values.reshape(count, 4)
    maps = maps * box_cells(corners * 550, (550, 550), cells)
    maps[0] = 0.5
    maps[1] = torch.where(maps[1] > 0, 0.5, 0.0)
    maps[2] = 0
    maps[3] = 1
    return maps


def definition(maps: Tensor, size: tuple[int, int], threshold: float) -> Tensor:
    return F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0] > threshold


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("threshold", [0.5, 0.3])
def test_regions_equal_the_definition(size: tuple[int, int], threshold: float) -> None:
    for seed, cells in enumerate([(138, 138), (34, 52)]):
        maps = draw(seed, 12, cells)
        placement = Placement(1, (550, 550), size, threshold, "stretched")
        expected = definition(maps, size, threshold).numpy()
        assert (place_full(maps, placement).numpy() == expected).all()
        found = np.stack([decode(rle) for rle in place(maps, placement)])
        assert (found == expected).all()
        assert expected[3].all()
        assert not expected[2].any()


@pytest.mark.parametrize("size", [size for size in SIZES if size[0] * size[1] >= SMALL_IMAGE], ids=str)
def test_values_of_single_pixels(size: tuple[int, int]) -> None:
    """They are those of the whole picture, bit for bit."""
    generator = torch.Generator().manual_seed(5)
    placement = Placement(1, (550, 550), size, 0.5, "stretched")
    for one in draw(3, 8, (138, 138)):
        whole = F.interpolate(one[None, None], size, mode="bilinear", align_corners=False)[0, 0]
        pixels = torch.stack([torch.randint(side, (40,), generator=generator) for side in size], dim=1)
        assert torch.equal(full_size_values(one, placement, pixels), whole[pixels[:, 0], pixels[:, 1]])


def test_cells_of_boxes() -> None:
    """A cell counts from one cell before the box to one cell behind it, without rounding."""
    boxes = torch.tensor([[110.0, 55.0, 330.0, 275.0], [0, 0, 550, 550], [200.1, 300.2, 200.2, 300.3]])
    found = box_cells(boxes, (550, 550), (10, 20))
    for box, cells in zip(boxes.double(), found, strict=True):
        x0, x1 = (box[0::2] / 550 * 20).tolist()
        y0, y1 = (box[1::2] / 550 * 10).tolist()
        for y in range(10):
            for x in range(20):
                assert bool(cells[y, x]) == (x0 - 1 <= x < x1 + 1 and y0 - 1 <= y < y1 + 1)
    assert found[1].all()
    assert box_cells(boxes[:0], (550, 550), (10, 20)).shape == (0, 10, 20)

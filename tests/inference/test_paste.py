"""Squares stretched over boxes: against the definition, pixel by pixel in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from condinst.inference import paste as module
from condinst.inference.paste import paste
from condinst.ops.bitmaps.rle import decode

SIZE = (37, 53)


def probability(square: Tensor, box: list[float], x: int, y: int) -> float:
    """The value at a pixel's centre: bilinear between the centres of the cells, 0 beyond them."""
    cells = len(square)
    at = [
        (centre - low) / (high - low) * cells - 0.5
        for centre, low, high in zip((x + 0.5, y + 0.5), box[:2], box[2:], strict=True)
    ]
    total = 0.0
    for row in (math.floor(at[1]), math.floor(at[1]) + 1):
        for column in (math.floor(at[0]), math.floor(at[0]) + 1):
            if 0 <= row < cells and 0 <= column < cells:
                total += float(square[row, column]) * (1 - abs(at[1] - row)) * (1 - abs(at[0] - column))
    return total


def random_squares(count: int, side: int) -> Tensor:
    coarse = torch.randn(count, 1, 5, 5, generator=torch.Generator().manual_seed(3))
    return F.interpolate(coarse, (side, side), mode="bicubic")[:, 0].mul(3).sigmoid()


BOXES = torch.tensor(
    [
        [3.2, 4.7, 30.1, 33.3],
        [0, 0, 53, 37],
        [51.5, 35.25, 53, 37],
        [10, 10, 10.3, 10.2],
        [20.5, 0, 21.5, 37],
        [0, 30.9, 53, 31.2],
        [12, 5, 13, 6],
    ]
)


@pytest.mark.parametrize("band", [2**20, 60, 1])
@pytest.mark.parametrize("side", [1, 7, 28])
@pytest.mark.parametrize("threshold", [0.5, 0.2])
def test_pixels(side: int, threshold: float, band: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BAND_PIXELS", band)
    squares = random_squares(len(BOXES), side)
    drawn = 0
    for square, box, rle in zip(squares, BOXES.tolist(), paste(squares, BOXES, SIZE, threshold), strict=True):
        assert rle["size"] == list(SIZE)
        mask = decode(rle)
        for y, x in np.ndindex(SIZE):
            near = all(
                math.floor(low) - 1 <= at < math.ceil(high) + 1
                for at, low, high in zip((x, y), box[:2], box[2:], strict=True)
            )
            value = probability(square, box, x, y) if near else 0.0
            if abs(value - threshold) > 1e-5:
                assert mask[y, x] == (value >= threshold), (x, y, box, value)
        drawn += int(mask.sum())
    assert drawn > 300


def test_a_probability_that_equals_the_threshold_is_inside() -> None:
    """Cells and pixels agree, so the values are exact."""
    square = torch.tensor([[0.5, 0.25], [0.75, 0.4999]])[None]
    mask = decode(paste(square, torch.tensor([[2.0, 1, 4, 3]]), (4, 6), 0.5)[0])
    assert np.argwhere(mask).tolist() == [[1, 2], [2, 2]]


def test_nothing_to_paste() -> None:
    assert paste(torch.zeros(0, 28, 28), torch.zeros(0, 4), SIZE, 0.5) == []
    (rle,) = paste(torch.zeros(1, 28, 28), BOXES[:1], SIZE, 0.5)
    assert not decode(rle).any()


def test_many_instances() -> None:
    """As one by one."""
    squares, boxes = random_squares(len(BOXES), 28).repeat(40, 1, 1), BOXES.repeat(40, 1)
    apart = [paste(square[None], box[None], SIZE, 0.5)[0] for square, box in zip(squares, boxes, strict=True)]
    assert paste(squares, boxes, SIZE, 0.5) == apart

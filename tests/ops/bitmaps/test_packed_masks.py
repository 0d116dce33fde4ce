"""Packed masks against the original masks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from condinst.ops.bitmaps import packed_masks
from condinst.ops.bitmaps.packed_masks import pack, unpack


def whole_masks(count: int, height: int, width: int, seed: int) -> Tensor:
    """Scattered pixels, few or many, and some masks without any."""
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(count, 1, 1, generator=generator) ** 4
    return torch.rand(count, height, width, generator=generator) < share * (torch.arange(count) % 3 > 0)[:, None, None]


def test_by_hand() -> None:
    mask = torch.zeros(1, 4, 5, dtype=torch.bool)
    mask[0, 1, 2] = mask[0, 2, 3] = True
    pixels, places = pack(mask)
    assert pixels.tolist() == [True, False, False, True]
    assert places.tolist() == [[2, 1, 2, 2]]
    assert torch.equal(unpack(pixels, places, torch.tensor([0]), (4, 5)), mask)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9), st.integers(1, 12), st.integers(1, 12), st.integers(0, 999), st.sampled_from([1, 3, 10_000]))
def test_there_and_back(count: int, height: int, width: int, seed: int, at_once: int) -> None:
    """In a larger picture the masks keep their places; instances may be left out, come again and in any order."""
    masks = whole_masks(count, height, width, seed)
    chosen = torch.randint(0, max(count, 1), (2 * count,), generator=torch.Generator().manual_seed(seed))
    expected = torch.zeros(2 * count, height + 2, width + 3, dtype=torch.bool)
    expected[:, :height, :width] = masks[chosen]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_masks, "LINES_AT_ONCE", at_once)
        assert torch.equal(unpack(*pack(masks), chosen, (height + 2, width + 3)), expected)


def test_rectangles_need_not_be_tight() -> None:
    masks = whole_masks(5, 6, 7, 1)
    places = torch.tensor([[0, 0, 7, 6]]).expand(5, 4)
    assert torch.equal(unpack(masks.flatten(), places, torch.arange(5), (6, 7)), masks)


def test_none() -> None:
    pixels, places = pack(torch.zeros(0, 4, 5, dtype=torch.bool))
    assert (pixels.shape, places.shape) == ((0,), (0, 4))
    assert unpack(pixels, places, torch.zeros(0, dtype=torch.int64), (4, 5)).shape == (0, 4, 5)


def test_they_take_the_room_of_the_objects() -> None:
    masks = torch.zeros(200, 100, 100, dtype=torch.bool)
    for row, mask in enumerate(masks):
        mask[row % 90 : row % 90 + 5, row % 70 : row % 70 + 8] = True
    assert pack(masks)[0].numel() == 200 * 40

"""Run-length encoding against pycocotools."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as oracle

from condinst.ops.bitmaps.rle import Region, areas, decode, decode_region, encode


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 2**32 - 1),
)
def test_encode_equals_pycocotools(height: int, width: int, x: int, y: int, more: int, seed: int) -> None:
    bitmap = np.random.default_rng(seed).random((height, width)) < 0.6
    whole = np.zeros((y + height + more, x + width + more), dtype=bool)
    whole[y : y + height, x : x + width] = bitmap
    rle = encode(Region(bitmap, x, y), *whole.shape)
    assert rle["counts"] == oracle.encode(np.asfortranarray(whole, dtype=np.uint8))["counts"].decode()
    assert rle["size"] == list(whole.shape)
    assert np.array_equal(decode(json.loads(json.dumps(rle))), whole)
    assert areas([rle]).tolist() == [whole.sum()]
    back = decode_region(rle)
    placed = np.zeros_like(whole)
    placed[back.y : back.y + back.bitmap.shape[0], back.x : back.x + back.bitmap.shape[1]] = back.bitmap
    assert np.array_equal(placed, whole)
    if whole.any():  # tight
        assert all(back.bitmap[line].any() for line in (0, -1, (slice(None), 0), (slice(None), -1)))


@pytest.mark.parametrize("fill", [False, True])
def test_empty_and_full(fill: bool) -> None:
    whole = np.full((3, 4), fill)
    rle = encode(Region(whole, 0, 0), 3, 4)
    assert rle["counts"] == oracle.encode(np.asfortranarray(whole, dtype=np.uint8))["counts"].decode()
    assert encode(Region(np.zeros((0, 0), dtype=bool), 0, 0), 3, 4)["counts"] == "<"  # 12 empty pixels
    assert areas([]).shape == (0,)

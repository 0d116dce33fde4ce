"""Rings joined by cuts cover the same pixels, and can be split again."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as oracle

from condinst.ops.bitmaps import bridges
from condinst.ops.bitmaps.bridges import bridge, unbridge
from condinst.ops.bitmaps.contours import trace

SQUARE = np.array([[0.0, 0], [4, 0], [4, 4], [0, 4]])


def draw(rings: list[NDArray[np.float64]], height: int, width: int) -> NDArray[np.uint8]:
    rles = oracle.frPyObjects([ring.ravel().tolist() for ring in rings], height, width)
    return np.asarray(oracle.decode(oracle.merge(rles)))


def canon(ring: NDArray[np.float64]) -> list[list[float]]:
    """From its smallest vertex on."""
    start = min(range(len(ring)), key=lambda index: tuple(ring[index]))
    return np.roll(ring, -start, axis=0).tolist()


def test_two_squares_by_hand() -> None:
    joined = bridge([SQUARE, SQUARE + np.array([10, 0])])
    assert joined.tolist() == [
        [0, 0], [4, 0], [10, 0], [14, 0], [14, 4], [10, 4], [10, 0], [4, 0], [4, 4], [0, 4],
    ]  # fmt: skip
    assert [canon(ring) for ring in unbridge(joined)] == [canon(SQUARE), canon(SQUARE + np.array([10, 0]))]


def test_one_ring_stays_as_it_is() -> None:
    assert bridge([SQUARE]) is SQUARE
    spike = np.array([[0.0, 0], [4, 0], [8, 0], [4, 0], [4, 4]])  # runs back along itself, but around nothing
    assert [ring.tolist() for ring in unbridge(spike)] == [spike.tolist()]


def test_ultralytics_way_of_joining_comes_apart() -> None:
    """Along the parts and back again: the middle one is walked in two halves."""
    far = [SQUARE, SQUARE + np.array([10, 0]), SQUARE + np.array([20, 0])]
    joined = np.array(
        [[0, 4], [0, 0], [4, 0], [4, 4], [10, 4], [10, 0], [14, 0], [14, 4], [20, 4], [20, 0], [24, 0], [24, 4],
         [20, 4], [14, 4], [10, 4], [4, 4]],
        dtype=np.float64,
    )  # fmt: skip
    rings = unbridge(joined)
    assert sorted(canon(ring) for ring in rings) == sorted(canon(ring) for ring in far)


@pytest.mark.parametrize("parts", [3, 7, 30])
def test_scattered_parts_come_back(parts: int) -> None:
    rng = np.random.default_rng(parts)
    rings = [SQUARE * rng.uniform(1, 2) + 12 * place for place in rng.permutation(np.argwhere(np.ones((6, 6))))[:parts]]
    joined = bridge(rings)
    assert len(joined) == 4 * parts + 2 * (parts - 1)  # cuts use vertices twice
    assert (draw([joined], 100, 100) == draw(rings, 100, 100)).all()
    assert sorted(canon(ring) for ring in unbridge(joined)) == sorted(canon(ring) for ring in rings)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 14), st.integers(1, 14), st.floats(0.2, 0.8), st.integers(0, 2**31))
def test_masks_with_holes_as_one_ring(height: int, width: int, share: float, seed: int) -> None:
    """Random pixels: many parts, holes, parts in holes, corners that touch."""
    bitmap = np.random.default_rng(seed).random((height, width)) < share
    rings = [ring for part in trace(bitmap) for ring in (part.outer, *part.holes)]
    if rings:
        assert (draw([bridge(rings)], height, width) == bitmap).all()


def test_many_cuts_come_apart_in_linear_time() -> None:
    """20,000 triangles on one spine: with a search for each cut it took minutes."""
    spine = [[10.0 * number, 0.0] for number in range(20_000)]
    ring = [point for x, y in spine for point in ([x, y], [x, 5.0], [x + 4, 9], [x, 9], [x, 5], [x, y])]
    start = time.process_time()
    assert len(unbridge(np.array(ring))) >= 20_000
    assert time.process_time() - start < 10


@pytest.mark.parametrize("at_once", [0, 100_000])
@pytest.mark.parametrize("seed", range(30))
def test_the_nearest_pair_is_the_first_of_all(seed: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole numbers have many pairs of one distance. Both ways of comparing find what every pair in turn finds."""
    monkeypatch.setattr(bridges, "AT_ONCE", at_once)
    rng = np.random.default_rng(seed)
    left, right = (rng.integers(0, 30, (rng.integers(1, 60), 2)).astype(np.float64) for _ in range(2))
    if seed % 3 == 0:
        left, right = left / 7, right / 7 + 1000.0
    if seed % 5 == 0:
        right = right + 40
    best, pair = np.inf, (0, 0)
    for index, point in enumerate(right):
        distances = ((left - point) ** 2).sum(1)
        if distances.min() < best:
            best, pair = distances.min(), (int(distances.argmin()), index)
    assert bridges._nearest(left, right) == pair


def test_long_rings_are_joined_in_little_time() -> None:
    """Two combs of 60,000 vertices that interlock: each pair in turn would be billions of distances."""
    count = 60_000
    x = np.arange(count, dtype=np.float64)
    left = np.stack((x, (x % 2) * 50), axis=1)
    right = np.stack((x[::-1] + 0.25, 51 - (x[::-1] % 2) * 50), axis=1)
    start = time.process_time()
    assert len(bridge([left, right])) == 2 * count + 2
    assert time.process_time() - start < 10

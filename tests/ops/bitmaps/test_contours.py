"""Outlines: hand-worked shapes, and random bitmaps that drawing the outlines must reproduce exactly."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as oracle

from condinst.ops.bitmaps.contours import Polygon, trace

Bitmap = NDArray[np.bool_]


def bitmap_of(*rows: str) -> Bitmap:
    return np.array([[letter == "#" for letter in row] for row in rows])


def inside(ring: NDArray[np.float64], height: int, width: int) -> Bitmap:
    """Even–odd rule at every pixel centre, edge by edge."""
    result = np.zeros((height, width), dtype=bool)
    ys, xs = np.mgrid[:height, :width] + 0.5
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        if x0 == x1:
            result ^= (xs > x0) & (ys > min(y0, y1)) & (ys < max(y0, y1))
    return result


def fill(polygons: list[Polygon], height: int, width: int) -> Bitmap:
    result = np.zeros((height, width), dtype=bool)
    for outer, holes in polygons:
        part = inside(outer, height, width)
        for hole in holes:
            gap = inside(hole, height, width)
            assert (gap <= part).all(), "a hole lies in its own part"
            part &= ~gap
        assert not (part & result).any(), "parts are disjoint"
        result |= part
    return result


def signed_area(ring: NDArray[np.float64]) -> float:
    following = np.roll(ring, -1, axis=0)
    return float((ring[:, 0] * following[:, 1] - ring[:, 1] * following[:, 0]).sum() / 2)


def parts_of(bitmap: Bitmap) -> int:
    """4-connected parts by flood filling."""
    left = {(int(y), int(x)) for y, x in np.argwhere(bitmap)}
    count = 0
    while left:
        count += 1
        stack = [left.pop()]
        while stack:
            y, x = stack.pop()
            near = {(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)} & left
            left -= near
            stack += near
    return count


def test_one_pixel_is_a_clockwise_square() -> None:
    ((outer, holes),) = trace(bitmap_of("#"), x=7, y=3)
    assert holes == ()
    assert {tuple(point) for point in outer.tolist()} == {(7, 3), (8, 3), (8, 4), (7, 4)}
    assert signed_area(outer) == 1


def test_empty_mask_has_no_polygon() -> None:
    assert trace(np.zeros((4, 5), dtype=bool)) == []
    assert trace(np.zeros((0, 0), dtype=bool)) == []


def test_straight_runs_have_corners_only() -> None:
    ((outer, _),) = trace(np.ones((30, 50), dtype=bool))
    assert len(outer) == 4


@pytest.mark.parametrize(
    ("bitmap", "parts", "holes"),
    [
        (bitmap_of("###", "#.#", "###"), 1, 1),
        (bitmap_of("##.", "##.", "..#"), 2, 0),  # touching at a corner: two parts
        (bitmap_of("####", "#.##", "##.#", "####"), 1, 2),  # holes touching at a corner: two rings
        (bitmap_of(".##", "#.#", "###"), 1, 1),  # a hole that touches the outside at a corner
        (bitmap_of("#####", "#...#", "#.#.#", "#...#", "#####"), 2, 1),  # an island in the hole
        (bitmap_of("#.#", ".#.", "#.#"), 5, 0),
        (bitmap_of("#######", "#.....#", "#.###.#", "#.#.#.#", "#.###.#", "#.....#", "#######"), 2, 2),
    ],
)
def test_parts_and_holes(bitmap: Bitmap, parts: int, holes: int) -> None:
    polygons = trace(bitmap)
    assert (len(polygons), sum(len(polygon.holes) for polygon in polygons)) == (parts, holes)
    assert np.array_equal(fill(polygons, *bitmap.shape), bitmap)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 14), st.integers(1, 14), st.floats(0.1, 0.95), st.integers(0, 2**32 - 1))
def test_random_bitmaps_come_back(height: int, width: int, density: float, seed: int) -> None:
    bitmap = np.random.default_rng(seed).random((height, width)) < density
    polygons = trace(bitmap)
    assert np.array_equal(fill(polygons, height, width), bitmap)
    assert len(polygons) == parts_of(bitmap)
    for outer, holes in polygons:
        assert signed_area(outer) > 0
        assert all(signed_area(hole) < 0 for hole in holes)
        for ring in (outer, *holes):
            assert len({tuple(point) for point in ring.tolist()}) == len(ring), "a ring never meets itself"
            steps = np.roll(ring, -1, axis=0) - ring
            assert ((steps != 0).sum(axis=1) == 1).all(), "edges run along pixels"


def test_coco_draws_the_same_pixels() -> None:
    y, x = np.mgrid[:60, :80]
    ring = np.hypot(x - 40, (y - 30) * 1.2)
    bitmap = ((ring < 28) & (ring > 12)) | (ring < 5)
    total = np.zeros((60, 80), dtype=bool)
    for outer, holes in trace(bitmap):
        runs = oracle.frPyObjects([outer.ravel().tolist(), *[hole.ravel().tolist() for hole in holes]], 60, 80)
        part, *gaps = (oracle.decode(run).astype(bool) for run in runs)
        for gap in gaps:
            part &= ~gap
        total |= part
    assert np.array_equal(total, bitmap)


def test_many_rings_find_their_holes_in_linear_time() -> None:
    """10,000 parts with a hole each: compared with each other they took minutes."""
    cell = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]], dtype=np.bool_)
    start = time.process_time()
    parts = trace(np.tile(cell, (100, 100)))
    assert time.process_time() - start < 10
    assert len(parts) == 10_000
    assert all(len(part.holes) == 1 and (part.holes[0].mean(0) == part.outer.mean(0)).all() for part in parts)

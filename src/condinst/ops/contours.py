"""Exact outlines of bitmaps: polygons along pixel edges, with holes, that cover the same pixels again.

Vertices are (x, y) at pixel corners: the pixel in column 3 spans x from 3 to 4. Two pixels that touch only at a corner
belong to different parts, so every ring is simple and rings meet in single points at most.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

Ring = NDArray[np.float64]  # (P, 2) x, y; not closed


class Polygon(NamedTuple):
    """One connected part of a mask. Outer ring clockwise on the screen, holes the other way; `shapely.Polygon(*it)`."""

    outer: Ring
    holes: tuple[Ring, ...]


def trace(bitmap: NDArray[np.bool_], x: int = 0, y: int = 0) -> list[Polygon]:
    """The parts of a mask (h, w) whose top-left pixel lies at (x, y); an empty mask has none."""
    rings = [ring for loop in _loops(bitmap) for ring in _simple(loop)]
    parts, _ = label(bitmap)  # pixels that touch at a corner only are two parts, as here
    owners = [int(parts[_pixel(ring)]) for ring in rings]
    signed = [_area(ring) for ring in rings]
    outers = [(ring, owner) for ring, owner, area in zip(rings, owners, signed, strict=True) if area > 0]
    holes: dict[int, list[Ring]] = {owner: [] for _, owner in outers}
    for ring, owner, area in zip(rings, owners, signed, strict=True):
        if area < 0:
            holes[owner].append(ring)
    shift = np.array([x, y], dtype=np.float64)
    return [Polygon(outer + shift, tuple(hole + shift for hole in holes[owner])) for outer, owner in outers]


def _corners(bitmap: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where outlines turn: vertices (V, 2) in row order, and `below` (V,), 1 where the vertical edge goes down.

    Around a vertex lie pixels a b / c d. One or three of them: one turn. Two on a diagonal: two turns, listed left
    edge first. Otherwise the outline goes straight on or there is none.
    """
    framed = np.pad(bitmap, 1)
    a, b, c, d = framed[:-1, :-1], framed[:-1, 1:], framed[1:, :-1], framed[1:, 1:]
    crossing = (a == d) & (b == c) & (a != b)
    turns = (a ^ b ^ c ^ d) + 2 * crossing.astype(np.int64)
    rows, columns = np.nonzero(turns)
    twice = turns[rows, columns]
    at = np.repeat(np.arange(len(rows)), twice)
    second = np.zeros(len(at), dtype=np.int64)
    second[1:] = at[1:] == at[:-1]
    rows, columns = rows[at], columns[at]
    down = (c ^ d)[rows, columns].astype(np.int64)
    # at a crossing a, d keep apart: left edge with the upper one; b, c keep apart: left edge with the lower one
    double = crossing[rows, columns]
    leads_up = a[rows, columns]
    down[double] = np.where(leads_up, second, 1 - second)[double]
    return np.stack((columns, rows), axis=1), down


def _loops(bitmap: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Closed outlines as turning points (P, 2), inside on the right hand; may touch themselves at a vertex."""
    vertices, below = _corners(bitmap)
    count = len(vertices)
    # along a row, turns pair up as the ends of horizontal edges; likewise along a column
    across = np.arange(count) ^ 1
    by_column = np.lexsort((below, vertices[:, 1], vertices[:, 0]))
    along = np.empty(count, dtype=np.int64)
    along[by_column[0::2]] = by_column[1::2]
    along[by_column[1::2]] = by_column[0::2]
    loops, seen = [], np.zeros(count, dtype=bool)
    for first in range(count):
        if seen[first]:
            continue
        path, at = [], first
        while not seen[at]:
            other = int(across[at])
            seen[at] = seen[other] = True
            path += [at, other]
            at = int(along[other])
        loops.append(_clockwise_around_ink(vertices[path], bitmap))
    return loops


def _clockwise_around_ink(ring: NDArray[np.int64], bitmap: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Turn a ring so that the mask lies to the right of its first (horizontal) edge."""
    (x0, y), (x1, _) = ring[0], ring[1]
    ink_below = y < bitmap.shape[0] and bool(bitmap[y, min(x0, x1)])
    return ring if (x1 > x0) == ink_below else ring[::-1]


def _simple(ring: NDArray[np.int64]) -> list[Ring]:
    """Cut a ring where it meets itself, so that no vertex comes twice."""
    points = [(int(px), int(py)) for px, py in ring]
    if len(set(points)) == len(points):
        return [ring.astype(np.float64)]
    pieces: list[Ring] = []
    path: list[tuple[int, int]] = []
    place: dict[tuple[int, int], int] = {}
    for point in points:
        if point in place:
            start = place[point]
            pieces.append(np.array(path[start:], dtype=np.float64))
            for gone in path[start:]:
                del place[gone]
            del path[start:]
        place[point] = len(path)
        path.append(point)
    pieces.append(np.array(path, dtype=np.float64))
    return pieces


def _area(ring: Ring) -> float:
    """Signed area, positive clockwise on the screen (y down)."""
    x, y = ring[:, 0], ring[:, 1]
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def _pixel(ring: Ring) -> tuple[int, int]:
    """(row, column) of the mask's pixel beside the ring's first edge, on its right hand."""
    (x0, y0), (x1, y1) = ring[0], ring[1]
    step = np.array([x1 - x0, y1 - y0]) / (abs(x1 - x0) + abs(y1 - y0))
    x, y = np.array([x0, y0]) + step / 2 + np.array([-step[1], step[0]]) / 2
    return int(y), int(x)

"""Exact outlines of bitmaps: polygons with holes that follow the pixel edges and cover exactly the mask's pixels.

Vertices are (x, y) at pixel corners. Example: the pixel in column 3 spans x from 3 to 4. Two pixels that touch only at
a corner belong to different parts. No ring crosses itself, and two rings share single points at most.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.float64]  # (P, 2) x, y; not closed


class Polygon(NamedTuple):
    """One connected part of a mask. `shapely.Polygon(*polygon)` converts it.

    outer: the outer ring, clockwise on the screen. holes: rings of the holes, counter-clockwise.
    """

    outer: Ring
    holes: tuple[Ring, ...]


def trace(bitmap: NDArray[np.bool_], x: int = 0, y: int = 0) -> list[Polygon]:
    """The polygons of a mask (h, w) whose top-left pixel lies at column `x` and row `y`. An empty mask has none."""
    from scipy.ndimage import label  # loading it takes a second

    rings = [ring for loop in _loops(bitmap) for ring in _simple(loop)]
    parts, _ = label(bitmap)  # SciPy, too, separates pixels that touch only at a corner
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
    """The vertices (V, 2) where outlines turn, in row order, and `below` (V,): 1 if the vertical edge goes down.

    Four pixels meet at a vertex: a and b above, c and d below. With one or three mask pixels among them, the outline
    turns once. With two on a diagonal it turns twice; the turn with the left edge comes first. Otherwise the outline
    goes straight on, or there is no outline.
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
    # if a and d are set, the left edge joins the upper edge; if b and c are set, it joins the lower edge
    double = crossing[rows, columns]
    leads_up = a[rows, columns]
    down[double] = np.where(leads_up, second, 1 - second)[double]
    return np.stack((columns, rows), axis=1), down


def _loops(bitmap: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Closed outlines as turning points (P, 2), with the mask on the right. They may touch themselves at a vertex."""
    vertices, below = _corners(bitmap)
    count = len(vertices)
    # two successive turns in a row are the ends of a horizontal edge; two in a column those of a vertical edge
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
    """Reverse a ring if needed, so that the mask lies on the right of its first edge, a horizontal one."""
    (x0, y), (x1, _) = ring[0], ring[1]
    ink_below = y < bitmap.shape[0] and bool(bitmap[y, min(x0, x1)])
    return ring if (x1 > x0) == ink_below else ring[::-1]


def _simple(ring: NDArray[np.int64]) -> list[Ring]:
    """Split a ring where it meets itself, so that no ring has a vertex twice."""
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
    """Signed area in pixels, positive for rings that are clockwise on the screen."""
    x, y = ring[:, 0], ring[:, 1]
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def _pixel(ring: Ring) -> tuple[int, int]:
    """(row, column) of the pixel on the right of the ring's first edge. It belongs to the mask."""
    (x0, y0), (x1, y1) = ring[0], ring[1]
    step = np.array([x1 - x0, y1 - y0]) / (abs(x1 - x0) + abs(y1 - y0))
    x, y = np.array([x0, y0]) + step / 2 + np.array([-step[1], step[0]]) / 2
    return int(y), int(x)

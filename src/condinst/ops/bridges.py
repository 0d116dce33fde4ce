"""Several rings as one, for formats that hold one ring an object: joined by cuts that run forth and back, and undone.

A cut covers nothing, so by the even–odd rule the one ring covers what the rings cover, holes and all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from condinst.ops.contours import Ring

Point = tuple[float, float]


def bridge(rings: Sequence[Ring]) -> Ring:
    """One ring through all vertices of `rings`, each (P, 2); the cuts join vertices that lie near each other."""
    joined = rings[0]
    for ring in rings[1:]:
        here, there = _nearest(joined, ring)
        joined = np.concatenate((joined[: here + 1], ring[there:], ring[: there + 1], joined[here:]))
    return joined


def unbridge(ring: Ring) -> list[Ring]:
    """The rings that cuts join in `ring` (P, 2), which is alone where there are none."""
    if len(set(zip(*ring.T.tolist(), strict=True))) == len(ring):  # a cut passes each of its ends twice
        return [ring]
    return [np.array(points, dtype=np.float64) for points in reversed(_undo([(float(x), float(y)) for x, y in ring]))]


def _nearest(left: Ring, right: Ring) -> tuple[int, int]:
    """Indices of the two vertices that lie nearest to each other; row by row, as both may be long."""
    best, pair = np.inf, (0, 0)
    for index, point in enumerate(right):
        distances = ((left - point) ** 2).sum(1)
        nearest = int(distances.argmin())
        if distances[nearest] < best:
            best, pair = distances[nearest], (nearest, index)
    return pair


def _undo(points: list[Point]) -> list[list[Point]]:
    """Rings cut off one by one, then what is left of `points`.

    `path` grows by a vertex at a time. Where an edge runs back along an earlier one, they are the two ways of a cut,
    and the vertices between them are a ring. Each vertex enters `path` once and leaves it at most once, so the time is
    proportional to their number.
    """
    rings: list[list[Point]] = []
    path = points[:1]
    edges: dict[tuple[Point, Point], int] = {}  # an edge → where in `path` it begins
    for index, point in enumerate([*points[1:], points[0]], 1):
        last = path[-1], point
        first = edges.get(last[::-1])
        # both the ring and what is left around it are at least triangles
        if first is None or len(path) - first - 2 < 3 or first + max(len(points) - index, 0) < 3:
            if index < len(points):
                edges.setdefault(last, len(path) - 1)
                path.append(point)
            continue
        rings.append(path[first + 1 : -1])
        for place in range(first, len(path) - 1):
            if edges.get(edge := (path[place], path[place + 1])) == place:
                del edges[edge]
        del path[first + 1 :]
    return [*rings, path]

"""Join several rings into one ring, and split it again.

Some formats hold one ring for each object. `bridge` connects the rings by cuts: each cut is an edge that runs from one
ring to another and back. A cut has no area. By the even–odd rule the joined ring therefore covers the same pixels,
holes included.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from condinst.ops.bitmaps.contours import Ring

Point = tuple[float, float]


def bridge(rings: Sequence[Ring]) -> Ring:
    """Join `rings`, each (P, 2), into one ring through all their vertices. Each cut joins two near vertices."""
    joined = rings[0]
    for ring in rings[1:]:
        here, there = _nearest(joined, ring)
        joined = np.concatenate((joined[: here + 1], ring[there:], ring[: there + 1], joined[here:]))
    return joined


def unbridge(ring: Ring) -> list[Ring]:
    """Split `ring` (P, 2) at its cuts. A ring without cuts is returned alone, unchanged."""
    if len(set(zip(*ring.T.tolist(), strict=True))) == len(ring):  # a cut visits each of its two ends twice
        return [ring]
    return [np.array(points, dtype=np.float64) for points in reversed(_undo([(float(x), float(y)) for x, y in ring]))]


def _nearest(left: Ring, right: Ring) -> tuple[int, int]:
    """Indices of the nearest pair of vertices. Distances are computed row by row, because both rings may be long."""
    best, pair = np.inf, (0, 0)
    for index, point in enumerate(right):
        distances = ((left - point) ** 2).sum(1)
        nearest = int(distances.argmin())
        if distances[nearest] < best:
            best, pair = distances[nearest], (nearest, index)
    return pair


def _undo(points: list[Point]) -> list[list[Point]]:
    """The rings that cuts separate, followed by the rest of `points`.

    The loop adds one vertex at a time to `path`. An edge that runs back along an earlier edge closes a cut, and the
    vertices between the two edges form a ring. Each vertex enters `path` once and leaves it at most once, so the time
    is proportional to the number of vertices.
    """
    rings: list[list[Point]] = []
    path = points[:1]
    edges: dict[tuple[Point, Point], int] = {}  # edge → index in `path` of its first vertex
    for index, point in enumerate([*points[1:], points[0]], 1):
        last = path[-1], point
        first = edges.get(last[::-1])
        # the ring and the remaining ring need at least three vertices each
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

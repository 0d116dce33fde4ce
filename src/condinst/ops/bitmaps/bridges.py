"""Join several rings into one ring, and split it again.

Some formats hold one ring for each object. `bridge` connects the rings by cuts: each cut is an edge that runs from one
ring to another and back. A cut has no area. By the even–odd rule the joined ring therefore covers the same pixels,
holes included.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from condinst.ops.bitmaps.contours import Ring

Point = tuple[float, float]
AT_ONCE = 100_000  # pairs of vertices compared directly
MARGIN = 1e-6  # pixels; more than rounding changes a distance


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
    """Indices of the nearest pair of vertices; of several such pairs the first in `right`, then in `left`.

    A first distance rules out most vertices of `left`, which may be long. Few pairs are then compared directly, many by
    a k-d tree.
    """
    bound = np.sqrt(((left - right[0]) ** 2).sum(1).min()) + MARGIN
    low, high = right.min(0) - bound, right.max(0) + bound
    near = np.flatnonzero(((left >= low) & (left <= high)).all(1))
    places, others = _pairs(left[near], right)
    distances = ((left[near[places]] - right[others]) ** 2).sum(1)
    best = np.lexsort((near[places], others, distances))[0]
    return int(near[places[best]]), int(others[best])


def _pairs(left: Ring, right: Ring) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of vertices with all nearest ones among them: two arrays of indices."""
    if len(left) * len(right) <= AT_ONCE:
        places, others = np.divmod(np.arange(len(left) * len(right)), len(right))
        return places, others
    from scipy.spatial import KDTree  # loading it takes a second

    tree = KDTree(left)
    least = tree.query(right)[0].min() + MARGIN
    found = tree.query_ball_point(right, least)
    places = np.concatenate([np.array(one, dtype=np.int64) for one in found])
    return places, np.repeat(np.arange(len(right)), [len(one) for one in found])


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

"""Several rings as one, for formats that hold one ring an object: joined by cuts that run forth and back, and undone.

A cut covers nothing, so by the even–odd rule the one ring covers what the rings cover, holes and all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from condinst.ops.contours import Ring


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
    waiting, rings = [[(float(x), float(y)) for x, y in ring]], []
    while waiting:
        points = waiting.pop()
        cut = _cut(points)
        if cut is None:
            rings.append(np.array(points, dtype=np.float64))
        else:
            first, last = cut
            waiting += [points[first + 1 : last], points[: first + 1] + points[last + 2 :]]
    return rings


def _nearest(left: Ring, right: Ring) -> tuple[int, int]:
    """Indices of the two vertices that lie nearest to each other; row by row, as both may be long."""
    best, pair = np.inf, (0, 0)
    for index, point in enumerate(right):
        distances = ((left - point) ** 2).sum(1)
        nearest = int(distances.argmin())
        if distances[nearest] < best:
            best, pair = distances[nearest], (nearest, index)
    return pair


def _cut(points: list[tuple[float, float]]) -> tuple[int, int] | None:
    """(i, k) of an edge i → i + 1 that k → k + 1 runs back, with at least a triangle on either side of it."""
    seen: dict[tuple[tuple[float, float], tuple[float, float]], int] = {}
    count = len(points)
    for index in range(count):
        edge = points[index], points[(index + 1) % count]
        first = seen.get(edge[::-1])
        # what the cut leaves: vertices first + 1 … index − 1 within, …first and index + 2… around
        if first is not None and index - first - 1 >= 3 and count - (index - first) - 1 >= 3:
            return first, index
        seen.setdefault(edge, index)
    return None

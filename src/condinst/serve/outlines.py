"""Outlines with few points, for annotation tools whose polygons people edit."""

from __future__ import annotations

import shapely

from condinst.ops.bitmaps.contours import Polygon, Ring

TOLERANCE = 1.0  # pixels; removes the steps of an outline along pixel edges


def outlines(parts: list[Polygon], tolerance: float = TOLERANCE) -> list[Ring]:
    """The outer ring (P, 2) of each part of a mask, in x, y of the picture. Holes are left out.

    tolerance: most distance in pixels between a ring and its simplified form.
    """
    return [_simple(part.outer, tolerance) for part in parts]


def _simple(ring: Ring, tolerance: float) -> Ring:
    points: Ring = shapely.get_coordinates(shapely.simplify(shapely.linearrings(ring), tolerance))[:-1]
    return points if len(points) >= 3 else ring

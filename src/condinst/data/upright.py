"""Turns objects annotated on a stored picture to the upright picture, by its EXIF orientation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from condinst.data.sample import Box, Instance, Polygons, RunLengths

# orientation → (swap x and y first, then mirror left and right, then mirror top and bottom)
_STEPS = {
    1: (False, False, False),
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}


def turn_upright(instance: Instance, orientation: int, width: int, height: int) -> Instance:
    """Turn `instance` of a stored picture of `width`×`height` pixels to pixels of the upright picture."""
    if orientation == 1:
        return instance
    shape = instance.shape
    if isinstance(shape, Polygons):
        shape = Polygons(tuple(_turn_points(part, orientation, width, height) for part in shape.parts))
    elif isinstance(shape, RunLengths):
        mask = shape.decode()
        rows, columns = mask.shape
        x, y, *_ = _turn_box((shape.x, shape.y, shape.x + columns, shape.y + rows), orientation, width, height)
        shape = RunLengths.of(_turn_pixels(mask, orientation), round(x), round(y))
    return replace(instance, box=_turn_box(instance.box, orientation, width, height), shape=shape)


def _turn_points(points: NDArray[np.float64], orientation: int, width: int, height: int) -> NDArray[np.float64]:
    """Map points: (P, 2) → (P, 2)."""
    swap, mirror_x, mirror_y = _STEPS[orientation]
    x, y = points.T[::-1] if swap else points.T
    across, down = (height, width) if swap else (width, height)
    return np.stack((across - x if mirror_x else x, down - y if mirror_y else y), axis=1)


def _turn_box(box: Box, orientation: int, width: int, height: int) -> Box:
    corners = _turn_points(np.array(box, dtype=np.float64).reshape(2, 2), orientation, width, height)
    (left, top), (right, bottom) = corners.min(0), corners.max(0)
    return float(left), float(top), float(right), float(bottom)


def _turn_pixels(mask: NDArray[np.bool_], orientation: int) -> NDArray[np.bool_]:
    swap, mirror_x, mirror_y = _STEPS[orientation]
    turned = mask.T if swap else mask
    turned = turned[:, ::-1] if mirror_x else turned
    return turned[::-1] if mirror_y else turned

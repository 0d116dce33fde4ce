"""Views of a picture: its parts and surroundings, as in the training of SSD and YOLACT (arXiv 1512.02325, §2.2).

A view is a rectangle in pixels of the picture. It may reach outside of the picture. Boxes are (M, 4) float64, xyxy.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]
# least IoU of the view with every box; None shows the whole
LEAST_OVERLAPS = (None, 0.1, 0.3, 0.5, 0.7, 0.9, 0.0)
TRIES = 50  # rectangles for one of them
LEAST_SIDE = 0.3  # of a crop, as a part of the side of the whole
ASPECTS = (0.5, 2.0)  # height over width of a crop


class View(NamedTuple):
    """The rectangle whose top left corner is (x, y)."""

    x: int
    y: int
    width: int
    height: int


def draw_surroundings(height: int, width: int, largest: float, rng: np.random.Generator) -> View:
    """Draw a view of a picture of (height, width) pixels that shows the whole picture and its surroundings.

    With probability 1/2 the view is the picture. Otherwise its sides are those of the picture times a factor from 1 to
    `largest`, and the picture lies anywhere in it.
    """
    if rng.random() < 0.5:
        return View(0, 0, width, height)
    factor = rng.uniform(1, largest)
    x, y = (int(rng.uniform(0, side * factor - side)) for side in (width, height))
    return View(-x, -y, int(width * factor), int(height * factor))


def draw_crop(whole: View, boxes: Boxes, rng: np.random.Generator) -> View:
    """Draw a part of the view `whole`, or `whole` itself, whose IoU with every box is at least a random value.

    The centre of at least one box lies inside the part. Without boxes, the function returns `whole`.
    """
    while len(boxes):
        least = LEAST_OVERLAPS[rng.integers(len(LEAST_OVERLAPS))]
        if least is None:
            break
        for _ in range(TRIES):
            part = _draw_part(whole, rng)
            if part is not None and overlaps(part, boxes).min() >= least and shows_centre(part, boxes).any():
                return part
    return whole


def _draw_part(whole: View, rng: np.random.Generator) -> View | None:
    """Draw a rectangle inside `whole`, or None if its sides do not fit each other."""
    width, height = (rng.uniform(LEAST_SIDE * side, side) for side in (whole.width, whole.height))
    if not ASPECTS[0] <= height / width <= ASPECTS[1]:
        return None
    x, y = rng.uniform(0, whole.width - width), rng.uniform(0, whole.height - height)
    left, top, right, bottom = int(x), int(y), int(x + width), int(y + height)
    if right == left or bottom == top:
        return None
    return View(whole.x + left, whole.y + top, right - left, bottom - top)


def overlaps(view: View, boxes: Boxes) -> NDArray[np.float64]:
    """The IoU (M,) of the view with each box."""
    low = np.maximum(boxes[:, :2], (view.x, view.y))
    high = np.minimum(boxes[:, 2:], (view.x + view.width, view.y + view.height))
    both = (high - low).clip(min=0).prod(axis=1)
    either = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + view.width * view.height - both
    found: NDArray[np.float64] = both / np.maximum(either, 1e-6)
    return found


def shows_centre(view: View, boxes: Boxes) -> NDArray[np.bool_]:
    """Whether the centre of each box (M,) lies strictly inside the view."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = (centres > (view.x, view.y)) & (centres < (view.x + view.width, view.y + view.height))
    return inside[:, 0] & inside[:, 1]

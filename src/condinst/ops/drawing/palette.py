"""Colours for classes and instances. They differ clearly from each other, and none is grey."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from condinst.ops.colours import rgb_to_lab

Colour = tuple[int, int, int]

# The colours differ in hue or lightness and are not grey, so they stand out in photographs and in stained tissue.
PALETTE: tuple[Colour, ...] = (
    (255, 56, 86),
    (0, 176, 255),
    (255, 196, 0),
    (0, 200, 120),
    (190, 80, 255),
    (255, 122, 0),
    (0, 224, 224),
    (255, 100, 200),
    (150, 220, 0),
    (70, 100, 255),
    (214, 150, 110),
    (170, 255, 190),
)
LEVELS = range(0, 256, 17)  # levels of red, green and blue for further colours
LIGHTNESS = (28.0, 94.0)  # range of CIE L*; darker and lighter outlines are hard to see in many pictures
CHROMA = 24.0  # smallest distance from grey in CIE a* and b*
LARGEST = 256  # number of different colours; later classes repeat them


@lru_cache(maxsize=8)
def class_colours(count: int) -> tuple[Colour, ...]:
    """`count` colours for the classes 0, 1, 2, …

    The first twelve are PALETTE. Each further colour has the largest distance in CIE L*a*b* from all earlier ones. So
    the colour of a class does not depend on the number of classes. Colours repeat after 256.
    """
    chosen = list(PALETTE)
    if count > len(chosen):
        candidates, places = _candidates()
        known = _lab(np.array(chosen))
        nearest = np.min([((places - one) ** 2).sum(1) for one in known], axis=0)
        for _ in range(len(chosen), min(count, LARGEST)):
            best = int(nearest.argmax())
            red, green, blue = candidates[best].tolist()
            chosen.append((red, green, blue))
            nearest = np.minimum(nearest, ((places - places[best]) ** 2).sum(1))
    return tuple(chosen[number % len(chosen)] for number in range(count))


def spread_colours(boxes: NDArray[np.float32]) -> list[Colour]:
    """A colour of PALETTE for each box (K, 4) xyxy. Adjacent boxes get different colours where PALETTE suffices."""
    count = len(boxes)
    chosen = np.zeros(count, dtype=np.int64)
    reach = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0) / 2
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    used = np.zeros(len(PALETTE))
    places = _Places()
    for row in range(count):
        others = places.around(centres[row], 1.5 * reach[row])
        gap = np.abs(centres[others] - centres[row]).max(axis=1, initial=0) - reach[others] - reach[row]
        near = np.bincount(chosen[others[gap < 0.5 * reach[row]]], minlength=len(PALETTE))
        chosen[row] = np.lexsort((np.arange(len(PALETTE)), used, near))[0]
        used[chosen[row]] += 1
        places.add(row, centres[row], reach[row])
    return [PALETTE[index] for index in chosen]


class _Places:
    """Rows by place, in a grid for each power of two of their reach, so that near rows are found among very many."""

    def __init__(self) -> None:
        self._cells: dict[int, dict[tuple[int, int], list[int]]] = {}

    def add(self, row: int, centre: NDArray[np.float32], reach: np.float32) -> None:
        """Add a row. centre: (x, y). reach: half of the longer side."""
        level = math.frexp(max(float(reach), 1.0))[1]  # reach < 2 ** level
        cell = math.floor(centre[0] / 2**level), math.floor(centre[1] / 2**level)
        self._cells.setdefault(level, {}).setdefault(cell, []).append(row)

    def around(self, centre: NDArray[np.float32], distance: float) -> NDArray[np.int64]:
        """Rows among which are all whose reach comes within `distance` of a point, along the farther axis."""
        found: list[int] = []
        for level, cells in self._cells.items():
            side = 2**level
            radius = distance + side
            columns, rows = (
                range(math.floor((float(at) - radius) / side), math.floor((float(at) + radius) / side) + 1)
                for at in centre
            )
            if len(columns) * len(rows) > len(cells):
                found += itertools.chain.from_iterable(cells.values())
                continue
            for cell in itertools.product(columns, rows):
                found += cells.get(cell, ())
        return np.array(found, dtype=np.int64)


def ink_on(colour: Colour) -> Colour:
    """Black or white, whichever is easier to read on `colour`."""
    return (0, 0, 0) if np.dot(colour, (0.299, 0.587, 0.114)) > 125 else (255, 255, 255)


def _candidates() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The colours to choose from: (P, 3) RGB in [0, 255] and (P, 3) CIE L*a*b*."""
    colours = np.stack(np.meshgrid(LEVELS, LEVELS, LEVELS, indexing="ij"), axis=-1).reshape(-1, 3)
    places = _lab(colours)
    lightness, chroma = places[:, 0], np.hypot(places[:, 1], places[:, 2])
    fit = (lightness >= LIGHTNESS[0]) & (lightness <= LIGHTNESS[1]) & (chroma >= CHROMA)
    return colours[fit], places[fit]


def _lab(colours: NDArray[np.int64]) -> NDArray[np.float64]:
    """RGB (P, 3) in [0, 255] → CIE L*a*b* (P, 3)."""
    lab: NDArray[np.float64] = rgb_to_lab(torch.from_numpy(colours).double().T[None, :, None])[0, :, 0].T.numpy()
    return lab

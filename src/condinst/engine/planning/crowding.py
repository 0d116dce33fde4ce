"""Count the objects that the grids of the SOLO family cannot tell apart (arXiv 1912.04488, §3.1)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from condinst.engine.planning.statistics import Statistics
from condinst.settings.model import ModelConfig


class Crowding(NamedTuple):
    """Objects in the grids. A cell learns one object.

    lost: objects that own the cell of their middle on no level, because another object of their size owns it. fullest:
    the most objects that a picture has for one level; level, cells: this level, from 0, and the cells of its grid.
    """

    lost: int
    fullest: int
    level: int
    cells: int


def measure_crowding(data: Statistics, model: ModelConfig, shorter: int) -> Crowding:
    """Count by the middle of each box. shorter: pixels of the shorter side of the network's input."""
    sizes = data.sizes * shorter
    owns = np.zeros(len(sizes), dtype=bool)
    fullest = (-1, 0, 1)
    for level, ((low, high), grid) in enumerate(zip(model.size_ranges, model.solo.grids, strict=True)):
        taken = np.flatnonzero((sizes >= low) & (sizes <= high))
        places = np.clip((data.middles[taken] * grid).astype(np.int64), 0, grid - 1)
        cells = (data.picture[taken] * grid + places[:, 1]) * grid + places[:, 0]
        _, last = np.unique(cells[::-1], return_index=True)  # the last object of a cell owns it
        owns[taken[::-1][last]] = True
        most = int(np.bincount(data.picture[taken]).max(initial=0))
        if most / grid**2 > fullest[0] / fullest[2]:
            fullest = (most, level, grid**2)
    return Crowding(int((~owns).sum()), *fullest)


def words_on_crowding(data: Statistics, model: ModelConfig, shorter: int) -> str:
    """A line of the plan about the grids."""
    found = measure_crowding(data, model, shorter)
    grids = ", ".join(f"{grid}×{grid}" for grid in model.solo.grids)
    line = f"grids: {grids} cells for P2–P6"
    if not found.lost:
        return f"{line}; every object has a cell of its own"
    if found.fullest > found.cells:
        line += (
            f"; warning: more objects than cells: a picture has {found.fullest} objects for the {found.cells} cells of "
            f"P{found.level + 2}"
        )
    return (
        f"{line}; {'' if 'warning' in line else 'warning: '}{found.lost} of {data.instances} objects "
        f"({found.lost / data.instances:.1%}) share their cell with another object of their size, and a cell finds one "
        "of them: set larger model.solo.grids, or model.method=condinst, which has no grid"
    )

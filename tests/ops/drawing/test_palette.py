"""Colours of neighbouring instances among very many."""

import numpy as np

from condinst.ops.drawing.palette import PALETTE, spread_colours


def test_spread_colours_as_without_a_grid() -> None:
    """The grid finds the same neighbours as a comparison of all pairs."""
    rng = np.random.default_rng(4)
    places, sizes = rng.uniform(0, 900, (400, 2)), np.exp(rng.uniform(0, 6, (400, 2)))
    sizes[7] = 0
    boxes = np.concatenate((places, places + sizes), axis=1).astype(np.float32)
    reach = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) / 2
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    chosen, used = np.zeros(400, np.int64), np.zeros(len(PALETTE))
    for row in range(400):
        gap = np.abs(centres[:row] - centres[row]).max(axis=1, initial=0) - reach[:row] - reach[row]
        near = np.bincount(chosen[:row][gap < 0.5 * reach[row]], minlength=len(PALETTE))
        chosen[row] = np.lexsort((np.arange(len(PALETTE)), used, near))[0]
        used[chosen[row]] += 1
    assert spread_colours(boxes) == [PALETTE[index] for index in chosen]

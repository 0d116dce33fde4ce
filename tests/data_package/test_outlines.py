"""Outlines that would take gigabytes to draw end in one line; the longest that an outline can have is drawn."""

import numpy as np
import pytest

from condinst.data.findings import RecordError
from condinst.data.sample import Polygons
from condinst.data.shapes import bound_outline, covers_pixels


def test_a_hundred_thousand_points_that_zigzag() -> None:
    """They took 4.7 GB."""
    steps = np.arange(100_000)
    zigzag = np.stack((np.where(steps % 2, 1000.0, 0.0), steps / 100), axis=1)
    with pytest.raises(
        RecordError, match=r"crosses [0-9,]{9,} pixels of the picture, but condinst reads at most 4,000,000"
    ):
        covers_pixels(Polygons((zigzag,)), 1000, 1000)
    with pytest.raises(RecordError, match="its outline crosses"):  # in parts, too
        bound_outline(np.split(zigzag, 100), 1000, 1000)


def test_what_lies_outside_the_picture_does_not_count() -> None:
    """A tile keeps the polygons of its scene; what is outside takes no time."""
    far = np.array([[0.0, 0], [1e6, 0], [1e6, 1e6], [0, 1e6]] * 10)
    bound_outline([far], 100, 100)
    assert covers_pixels(Polygons((far[:4],)), 100, 100)


def test_a_comb_with_a_tooth_in_every_column_is_drawn() -> None:
    columns = np.arange(500).repeat(4)
    comb = np.stack((columns + np.tile([0.0, 0, 0.5, 0.5], 500), np.tile([0.0, 500, 500, 0], 500)), axis=1)
    assert covers_pixels(Polygons((comb,)), 500, 500)

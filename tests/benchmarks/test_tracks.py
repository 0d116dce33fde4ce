"""The benchmark of tracks: perfect and bad tracks, a floor for the Tracker, and the table of the page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.tracking.clips import KINDS, make_clip
from benchmarks.tracking.contest import follow, page_table, score
from benchmarks.tracking.rates import page_table as rates_table
from condinst.tracking.tracker import Tracker

DATA = Path(__file__).parent.parent / "data"
PAGE = Path(__file__).parent.parent.parent / "docs" / "how-to" / "films.md"
BALLS = KINDS["balls that bounce"]
FLOOR = 0.55  # HOTA; an error of a pixel is large for the IoU of a ball of nine pixels


def test_a_seeded_film_is_followed_above_the_floor() -> None:
    pytest.importorskip("trackeval")
    pytest.importorskip("motmetrics")
    clip = make_clip(BALLS, DATA, seed=7, frames=60)
    assert score(clip.truth, follow(clip, Tracker())[0])[0] > FLOOR
    assert score(clip.truth, clip.truth) == pytest.approx([1, 1, 1, 1, 1, 1, 0])
    torn = [{number + 1000 * at: rle for number, rle in frame.items()} for at, frame in enumerate(clip.truth)]
    found, associated = score(clip.truth, torn)[1:3]  # a new number in every frame: found, but not followed
    assert found == pytest.approx(1)
    assert associated == pytest.approx(np.mean([1 / sum(n in f for f in clip.truth) for s in clip.truth for n in s]))


def test_a_film_is_that_of_its_seed() -> None:
    one, same, other = (make_clip(BALLS, DATA, seed, frames=12) for seed in (1, 1, 2))
    assert one.truth == same.truth != other.truth
    assert [found.masks.rle for found in one.found] == [found.masks.rle for found in same.found]


def test_outlines_come_from_the_data_set() -> None:
    clip = make_clip(KINDS["people"]._replace(data="nuclei", objects=6), DATA, seed=0, frames=8)
    assert max(len(frame) for frame in clip.truth) >= 3


def test_the_page_has_the_tables_of_the_results() -> None:
    assert page_table() in PAGE.read_text(encoding="utf-8")
    assert rates_table() in PAGE.read_text(encoding="utf-8")

"""The benchmark of tracks: scores of perfect and of bad tracks, a floor for the Tracker, and the table of the page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarks.tracking.record import FILE, Table, page_table

from benchmarks.facts import read_facts
from benchmarks.tracking.clips import KINDS, Clip, make_clip
from condinst.ops.bitmaps.rle import Rle
from condinst.tracking.tracker import Tracker

DATA = Path(__file__).parent.parent / "data"
PAGE = Path(__file__).parent.parent.parent / "docs" / "how-to" / "films.md"
BALLS = KINDS["balls that bounce"]
FLOOR = 0.5  # HOTA; jitter of a pixel on balls of nine pixels limits the IoU of the masks


def follow(clip: Clip) -> list[dict[int, Rle]]:
    tracker, tracked = Tracker(), []
    for result in clip.found:
        found = tracker.update(result)
        tracked.append(dict(zip(found.boxes.id.tolist(), found.masks.rle, strict=True)))
    return tracked


def test_a_seeded_film_is_followed_above_the_floor() -> None:
    pytest.importorskip("trackeval")
    pytest.importorskip("motmetrics")
    from benchmarks.tracking.scores import score

    clip = make_clip(BALLS, DATA, seed=7, frames=60)
    found = score(clip.truth, follow(clip))
    assert found.hota > FLOOR
    assert found.idf1 > 0.8
    perfect = score(clip.truth, clip.truth)
    assert perfect[:6] == pytest.approx([1.0] * 6)
    assert perfect.switches == 0
    apart = [{number + 1000 * at: rle for number, rle in frame.items()} for at, frame in enumerate(clip.truth)]
    torn = score(clip.truth, apart)  # a new number in every frame: found, but never followed
    assert torn.deta == pytest.approx(1)
    assert torn.assa == pytest.approx(np.mean([1 / sum(n in f for f in clip.truth) for s in clip.truth for n in s]))


def test_a_film_is_that_of_its_seed() -> None:
    one, same, other = (make_clip(BALLS, DATA, seed, frames=12) for seed in (1, 1, 2))
    assert one.truth == same.truth != other.truth
    for found, again in zip(one.found, same.found, strict=True):
        assert found.masks.rle == again.masks.rle


def test_outlines_come_from_the_data_set() -> None:
    kind = KINDS["people"]._replace(data="nuclei", objects=6)
    clip = make_clip(kind, DATA, seed=0, frames=8, split=split_of(DATA / "nuclei"))
    assert max(len(frame) for frame in clip.truth) >= 3
    assert sum(len(result) for result in clip.found) > 8


def split_of(folder: Path) -> str:
    return next(path.stem for path in sorted(folder.glob("*.json")))


def test_the_page_has_the_table_of_the_results() -> None:
    assert page_table(read_facts(FILE, Table)) in PAGE.read_text(encoding="utf-8")

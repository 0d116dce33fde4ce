"""The simulation of failures, where the result can be computed by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.survival.simulate_shards import Fleet, simulate

FLEET = Fleet(pictures=12_000, machines=3, workers=4, seconds=0.1, spread=0.0, hours=1e9, pause=60.0, overhead=0.0)


def test_without_failures_work_divides_evenly() -> None:
    found = simulate(FLEET, 100, 0)
    assert found.shards == 120
    assert found.hours == pytest.approx(found.ideal) == pytest.approx(100 / 3600)
    assert (found.failures, found.lost) == (0, 0)


def test_an_uneven_number_of_shards_makes_the_last_one_wait() -> None:
    """Three machines with four workers have 12 places; 15 shards need two rounds."""
    assert simulate(FLEET, 800, 0).hours == pytest.approx(2 * 80 / 3600)


def test_overhead_counts_for_each_shard() -> None:
    assert simulate(replace(FLEET, overhead=1.0), 100, 0).hours == pytest.approx(110 / 3600)


def test_failures_cost_less_with_small_shards() -> None:
    fleet = replace(FLEET, hours=0.02)
    small, large = (simulate(fleet, size, 1) for size in (10, 1000))
    assert small.failures > 0
    assert 0 < small.lost < 0.1 < large.lost
    assert small.hours < large.hours

"""The benchmark of `--workers`: a short run, and the table of the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.survival.worker_rates import count_at_once, count_in_shards, fill, page_table

PAGE = Path(__file__).parent.parent.parent / "docs" / "how-to" / "many-pictures.md"


def test_the_page_has_the_table_of_the_results() -> None:
    assert page_table() in PAGE.read_text(encoding="utf-8")


@pytest.mark.slow
def test_both_ways_find_the_same(tmp_path: Path) -> None:
    fill(tmp_path / "pictures", 3)
    options = [str(tmp_path / "pictures"), "--model", "nuclei", "--device", "cpu", "--size", "128"]
    found = count_at_once(options)
    assert found > 0
    assert count_in_shards([*options, "--workers", "1", "--shard-size", "2"]) == found

"""Shards in Parquet: the rows of the JSON Lines, each picture exactly once after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from condinst.errors import UsageError
from condinst.many import plan as plans
from condinst.many import rows
from tests.many.test_shards import line, make_pictures, read, run

needs_pyarrow = pytest.mark.skipif(find_spec("pyarrow") is None, reason="pyarrow, the extra 'parquet', is missing")
PARQUET = ("--shard-format", "parquet")


def read_parquet(out: Path) -> list[dict]:
    """The rows without the keys that are null, as in lines of JSON."""
    from pyarrow.parquet import read_table

    found = [row for path in sorted(out.glob("results-*.parquet")) for row in read_table(path).to_pylist()]
    return [{key: value for key, value in row.items() if value is not None} for row in found]


@needs_pyarrow
@pytest.mark.slow
def test_the_rows_are_those_of_the_lines_also_after_a_kill(tmp_path: Path) -> None:
    pictures = make_pictures(tmp_path / "cells", 10)
    assert run(pictures, tmp_path / "lines").returncode == 3
    out = tmp_path / "rows"
    with subprocess.Popen(
        line(pictures, out, *PARQUET), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        while process.poll() is None and not list(out.glob("results-*")):
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
    assert 1 <= len(list(out.glob("results-*.parquet"))) < 4
    refused = run(pictures, out, "--resume")
    assert refused.returncode == UsageError.exit_code
    assert "the earlier run had other settings (shard_format)" in refused.stderr
    done = run(pictures, out, "--resume", *PARQUET)
    assert done.returncode == 3, done.stderr
    assert "results-*.parquet" in done.stderr
    found = read_parquet(out)
    assert found == read(tmp_path / "lines")
    assert len({one["source"] for one in found}) == len(found) == 11
    assert not list(out.glob(f".*{plans.PART}"))


@needs_pyarrow
def test_records_come_back_from_parquet(tmp_path: Path) -> None:
    """More records than a row group has; no instances, and a reason in place of a result."""
    box = {"bbox": [0.5, 1.0, 2.25, 3.0], "score": 0.75, "area": 6, "category_id": 2}
    one = box | {"segmentation": {"size": [9, 8], "counts": "ä0"}}
    records = [{"source": f"{n}", "width": 8, "height": 9, "annotations": [one] * (n % 3)} for n in range(150)]
    records.append({"source": "s3://bucket/ä", "left_out": "no such file"})
    with (tmp_path / "results-0.parquet").open("wb") as file, rows.writer(rows.PARQUET, file) as write:
        for record in records:
            write(record)
    assert read_parquet(tmp_path) == records


def test_wrong_formats_are_one_line(tmp_path: Path) -> None:
    cases = (
        ([*PARQUET], "--shard-format needs --workers"),
        (["--workers", "1", "--shard-format", "avro"], "'avro' is not one of 'jsonl', 'parquet'"),
    )
    for options, message in cases:
        command = [sys.executable, "-m", "condinst", "predict", "a.png", "--out", str(tmp_path / "out"), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == UsageError.exit_code
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_without_pyarrow_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "find_spec", lambda _: None)
    rows.check_format(rows.JSONL)
    with pytest.raises(UsageError, match=r"pip install 'condinst\[parquet\]'"):
        rows.check_format(rows.PARQUET)


def test_a_plan_without_a_format_has_lines(tmp_path: Path) -> None:
    """A plan of an earlier version."""
    plans.begin(tmp_path, ["a.png"], 3, {})
    assert plans.read(tmp_path, {plans.FORMAT: rows.JSONL}).path(0).suffix == ".jsonl"

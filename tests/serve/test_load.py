"""The load test of benchmarks/serving, in short, and its table."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from benchmarks.facts import RESULTS, ROOT, read_facts
from benchmarks.serving import load, page
from benchmarks.serving.client import Target
from benchmarks.serving.record import Load, Long, Serving
from benchmarks.serving.server import Server
from benchmarks.speed.measure import Machine
from condinst.errors import DataError
from tests.serve.running import Running

PAGE = ROOT / "docs" / "how-to" / "serve.md"
RECORD = RESULTS / "serving-cpu.json"


@pytest.fixture
def target(server: Running) -> Server:
    return Server(server.process, server.port)


@pytest.mark.slow
def test_no_request_is_lost(target: Server) -> None:
    capacity = asyncio.run(load.capacity(target, 64, 1))
    rate = capacity.answers_per_second
    assert capacity.answered == capacity.sent > 4
    ordinary = asyncio.run(load.ordinary(target, 64, 1, rate))
    assert [round(each.offered / rate) for each in ordinary] == [1, 2, 4]
    for each in (*ordinary, asyncio.run(load.hostile(target, 64, 2, rate))):
        assert each.answered + each.refused == each.sent > 0
        assert each.lost == each.late == each.failed == each.other == 0
        assert 0 < each.p50_ms <= each.p99_ms
    long = asyncio.run(load.many(target, 80))
    assert (long.requests, long.lost) == (80, 0)
    assert set(long.statuses) <= {"200", "413", "415", "422"}
    assert sum(long.statuses.values()) == 80
    assert len(long.resident_mib) == 10


def test_a_request_without_an_answer_counts_as_lost() -> None:
    outcome = asyncio.run(Target(1, "/", b"").ask())
    assert outcome.status == 0


def record() -> Serving:
    machine = Machine(
        cpu="a processor", cores=2, memory_gb=1, device="CPU", system="Linux", threads=1, allocator={}, versions={}
    )
    one = Load(
        what="2× capacity", size=192, offered=20, seconds=10, sent=200, answered=90, refused=109, late=1, failed=0,
        other=0, lost=0, answers_per_second=9, p50_ms=400, p99_ms=1234.5, refusal_ms=5, resident_mib=900,
    )  # fmt: skip
    long = Long(requests=10_000, seconds=300, statuses={"200": 9000, "415": 1000}, lost=0, resident_mib=(900, 901, 902))
    return Serving(
        command="python -m benchmarks.serving.load", machine=machine, model="nuclei", deadlines={"192": 0.8},
        loads=(one,), long=long, exit_status=0,
    )  # fmt: skip


def test_the_table(tmp_path: Path) -> None:
    (tmp_path / "docs" / "how-to").mkdir(parents=True)
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    (tmp_path / "benchmarks" / "results" / "serving-cpu.json").write_text(record().model_dump_json())
    copy = tmp_path / "docs" / "how-to" / "serve.md"
    copy.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    page.main(tmp_path)
    text = copy.read_text(encoding="utf-8")
    assert "| 192² | 2× capacity | 20 | 9 | 109 | 1 | 0 | 0 | 400 ms | 1,234 ms |" in text
    assert "10,000 requests, one of ten with a fault: 9,000 with 200, 1,000 with 415, 0 without an answer" in text
    page.main(tmp_path, check=True)
    copy.write_text(text.replace("1,234", "1"), encoding="utf-8")
    with pytest.raises(DataError, match="not what was measured"):
        page.main(tmp_path, check=True)
    copy.write_text("no markers", encoding="utf-8")
    with pytest.raises(DataError, match="expected the markers"):
        page.main(tmp_path)


@pytest.mark.skipif(not RECORD.is_file(), reason="the load test has not been run yet")
def test_the_page_shows_what_was_measured() -> None:
    page.main(ROOT, check=True)
    measured = read_facts(RECORD, Serving)
    assert json.loads(RECORD.read_text())["command"].startswith("python -m benchmarks.serving.load")
    assert measured.exit_status == 0
    assert measured.long.lost == 0
    assert all(each.lost == 0 for each in measured.loads)
    assert os.fspath(ROOT) not in RECORD.read_text()

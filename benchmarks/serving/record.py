"""What the load test measures, as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from benchmarks.facts import Facts
from benchmarks.serving.client import Outcome
from benchmarks.speed.measure import Machine


class Load(Facts):
    """One run of requests.

    what: in words. offered: requests a second, or 0 for clients that each wait for their answer. answered, refused,
    late, failed: answers with status 200, 503, 504 and 500. other: other answers. lost: requests without an answer.
    answers_per_second: of status 200. p50_ms, p99_ms: time of these answers. refusal_ms: median time of a 503.
    """

    what: str
    size: int
    offered: float
    seconds: float
    sent: int
    answered: int
    refused: int
    late: int
    failed: int
    other: int
    lost: int
    answers_per_second: float
    p50_ms: float
    p99_ms: float
    refusal_ms: float
    resident_mib: float


class Long(Facts):
    """Many requests, one tenth of them bad. resident_mib: memory after each tenth."""

    requests: int
    seconds: float
    statuses: dict[str, int]
    lost: int
    resident_mib: tuple[float, ...]


class Serving(Facts):
    """The file of the load test. deadlines: seconds, by the size of the pictures."""

    command: str
    machine: Machine
    model: str
    deadlines: dict[str, float]
    loads: tuple[Load, ...]
    long: Long
    exit_status: int


def summary(
    what: str, size: int, offered: float, seconds: float, outcomes: Sequence[Outcome], resident_mib: float
) -> Load:
    """Summarise the outcomes of a run."""
    counts = Counter(outcome.status for outcome in outcomes)
    known = (200, 503, 504, 500, 0)
    load = Load(
        what=what,
        size=size,
        offered=round(offered, 1),
        seconds=round(seconds, 1),
        sent=len(outcomes),
        answered=counts[200],
        refused=counts[503],
        late=counts[504],
        failed=counts[500],
        other=sum(count for status, count in counts.items() if status not in known),
        lost=counts[0],
        answers_per_second=round(counts[200] / seconds, 1),
        p50_ms=_percentile(outcomes, 200, 50),
        p99_ms=_percentile(outcomes, 200, 99),
        refusal_ms=_percentile(outcomes, 503, 50),
        resident_mib=resident_mib,
    )
    print(load.model_dump_json(), flush=True)
    return load


def _percentile(outcomes: Sequence[Outcome], status: int, percent: float) -> float:
    times = [1000 * outcome.seconds for outcome in outcomes if outcome.status == status]
    return round(float(np.percentile(times, percent)), 1) if times else 0.0

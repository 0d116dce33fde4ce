"""The queue admits by the estimated wait, and the worker outlives failed predictions."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from condinst.config import Config
from condinst.errors import DataError
from condinst.inference.network import Network
from condinst.inference.result import Result
from condinst.serve.formats import Answer
from condinst.serve.models import Models
from condinst.serve.refusal import RequestError
from condinst.serve.work.admission import PER_PICTURE, Pace, excess, retry_after
from condinst.serve.work.jobs import Job, Kind, Queue, Settings
from condinst.serve.work.worker import CPU_PIXELS, Worker


class Fake:
    """A predictor that answers with the content of each picture, or fails as the content says."""

    device = torch.device("cpu")
    config = Config()

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.dead = False
        self.network = Network(None, lambda _: None, torch.float32, 1)  # type: ignore[arg-type,return-value]

    def __call__(self, picture: object, size: int) -> None:
        if self.dead:
            raise RuntimeError("CUDA error: device-side assert triggered")

    def stream(self, sources: list[bytes], batch: int, on_error: object, **settings: object) -> Iterator[bytes]:
        self.batches.append(sources)
        for source in sources:
            if source == b"dead":
                self.dead = True
            if source in (b"bug", b"dead"):
                raise RuntimeError("an unexpected error")
            if source == b"tiles":  # until nobody waits
                while not time.sleep(0.01):
                    self.network(torch.zeros(1, 3, 1, 1))
            if source == b"memory":
                raise RuntimeError("can't allocate memory: you tried to allocate 9 bytes")
            if source == b"damaged":
                on_error(source, DataError("image bytes: damaged image"))  # type: ignore[operator]
            else:
                yield source


def job_of(content: bytes, side: int = 10, seconds: float = 60, **settings: float) -> Job:
    def render(result: Result) -> Answer:
        if result == b"render":  # type: ignore[comparison-overlap]
            raise ZeroDivisionError
        return Answer(result, "text/plain", {})  # type: ignore[arg-type]

    kind = Kind("a", Settings(**settings), (side, side))  # type: ignore[arg-type]
    return Job(kind, content, render, time.monotonic() + seconds)


class Served:
    """A worker with a fake model."""

    def __init__(self) -> None:
        self.model, self.queue = Fake(), Queue(50, 60)
        self.seen: list[int] = []
        models = Models({"a": self.model}, {})  # type: ignore[dict-item]
        self.worker = Worker(models, self.queue, 4, lambda count, _: self.seen.append(count))

    def answers(self, *contents: bytes) -> list[bytes | int]:
        """The answers to jobs that wait together, or their statuses."""
        jobs = [job_of(content) for content in contents]
        for job in jobs:
            self.queue.put(job)
        if not self.worker.is_alive():
            self.worker.start()
        return [outcome(job) for job in jobs]


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served()
    yield served
    served.queue.close("the test is over")
    if served.worker.ident:
        served.worker.join(5)
        assert not served.worker.is_alive()


def outcome(job: Job) -> bytes | int:
    error = job.answer.exception(5)
    if error is None:
        return job.answer.result().content
    assert isinstance(error, RequestError)
    return error.status


def test_a_failed_prediction_costs_only_its_own_request(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    assert served.answers(b"a", b"bug", b"b", b"damaged") == [b"a", 500, b"b", 422]
    assert served.answers(b"render", b"memory", b"c") == [500, 413, b"c"]
    assert served.model.batches[:5] == [[b"a", b"bug", b"b", b"damaged"], [b"a"], [b"bug"], [b"b"], [b"damaged"]]
    assert served.worker.broken == ""
    assert caplog.text.count("a prediction failed") == 2


def test_a_dead_model_ends_the_worker(served: Served) -> None:
    assert served.answers(b"a", b"dead", b"b", b"c", b"d", b"e") == [b"a", 500, b"b", b"c", 500, 500]
    served.worker.join(5)
    assert not served.worker.is_alive()
    assert "cannot predict any longer (RuntimeError)" in served.worker.broken
    with pytest.raises(RequestError, match="cannot predict any longer"):
        served.queue.put(job_of(b"late"))


def test_a_fault_of_the_worker_itself_leaves_no_request_without_an_answer(served: Served) -> None:
    def seen(*_: object) -> None:
        raise KeyError("metrics")

    served.worker.seen = seen
    assert served.answers(b"a", b"b", b"c", b"d", b"e") == [b"a", b"b", b"c", b"d", 500]
    served.worker.join(5)
    assert "the worker failed (KeyError)" in served.worker.broken


def test_tiles_stop_when_nobody_waits_for_the_picture(served: Served) -> None:
    served.worker.start()
    job = job_of(b"tiles")
    job.kind = replace(job.kind, tiles=20)
    served.queue.pace("a").add(1.0, [100])  # 20 s for all tiles
    served.queue.put(job)
    time.sleep(0.1)
    assert job.answer.running()
    with pytest.raises(RequestError, match="the server is busy"):
        served.queue.check("a", 1_500_000)  # 38 s
    served.queue.drop(job)
    served.queue.check("a", 1_500_000)
    assert outcome(job) == 504
    assert served.answers(b"a") == [b"a"]


def test_a_picture_in_tiles_runs_alone_and_counts_with_all_its_tiles(served: Served) -> None:
    served.queue.pace("a").add(1.0, [100])
    jobs = [job_of(b"1"), job_of(b"2")]
    for job in jobs:
        job.kind = replace(job.kind, tiles=20)
        served.queue.put(job)
    with pytest.raises(RequestError, match=r"2 pictures wait, about 40\.0 s"):
        served.queue.put(job_of(b"", side=1000))
    late = job_of(b"")
    late.kind = replace(late.kind, tiles=121)
    with pytest.raises(RequestError, match="121 tiles take about 121 s, and the deadline is 60 s"):
        served.queue.put(late)
    served.worker.start()
    assert [outcome(job) for job in jobs] == [b"1", b"2"]
    assert served.model.batches == [[b"1"], [b"2"]]


def test_jobs_of_one_kind_run_together(served: Served) -> None:
    jobs = [job_of(b"1"), job_of(b"2", side=12), job_of(b"3"), job_of(b"4", conf=0.3), job_of(b"5"), job_of(b"6")]
    for job in [*jobs, job_of(b"7")]:
        served.queue.put(job)
    served.worker.start()
    assert [outcome(job) for job in jobs] == [b"1", b"2", b"3", b"4", b"5", b"6"]
    served.queue.close("")
    assert served.model.batches[:2] == [[b"1", b"3", b"5", b"6"], [b"2"]]


def test_large_pictures_run_alone_on_a_cpu() -> None:
    queue = Queue(50, 60)
    for side in (600, 600, 300, 300, 300):
        queue.put(job_of(b"", side))
    assert [len(queue.take(4, CPU_PIXELS)) for _ in range(4)] == [1, 1, 2, 1]


def test_a_cancelled_job_and_a_late_one_are_not_predicted(served: Served) -> None:
    gone, late, live = job_of(b"gone"), job_of(b"late", seconds=-1), job_of(b"live")
    for job in (gone, late, live):
        served.queue.put(job)
    gone.answer.cancel()
    served.worker.start()
    assert (outcome(live), outcome(late)) == (b"live", 504)
    assert served.model.batches == [[b"live"]]


def test_admission_by_the_estimated_wait() -> None:
    """A picture takes 1 s, and the deadline of 5 s admits 4 s in all."""
    queue = Queue(50, 5)
    queue.pace("a").add(1.0, [100])
    for _ in range(4):
        queue.put(job_of(b""))
    with pytest.raises(RequestError, match=r"4 pictures wait, about 4\.0 s") as refused:
        queue.put(job_of(b""))
    assert (refused.value.status, refused.value.retry_after) == (503, 1)
    queue.take(1, 10**6)
    with pytest.raises(RequestError):  # the busy one counts, too
        queue.check("a", 100)
    queue.done()
    queue.check("a", 100)
    with pytest.raises(RequestError) as refused:
        queue.check("a", 100 + 7 * (100 + PER_PICTURE))  # 8 s
    assert refused.value.headers == {"Retry-After": "7"}


def test_an_idle_server_admits_a_slow_picture() -> None:
    queue = Queue(50, 5)
    queue.pace("a").add(100.0, [100])
    queue.put(job_of(b""))
    with pytest.raises(RequestError):
        queue.put(job_of(b""))


def test_the_queue_is_bounded() -> None:
    queue = Queue(2, 60)
    queue.put(job_of(b""))
    queue.put(job_of(b""))
    with pytest.raises(RequestError, match="busy"):
        queue.put(job_of(b""))


def test_the_pace_follows_the_measurements() -> None:
    pace = Pace()
    assert pace.seconds(100) == 0
    pace.add(2.0, [100, 100])
    assert pace.seconds(100) == pytest.approx(1)
    for _ in range(60):
        pace.add(4.0, [100, 100])
    assert pace.seconds(100) == pytest.approx(2, rel=0.01)
    assert pace.seconds(100 + PER_PICTURE) == pytest.approx(4, rel=0.02)
    assert excess(3, 1, 5) == 0
    assert excess(3.5, 1, 5) == pytest.approx(0.5)
    assert (retry_after(0.2), retry_after(2.1)) == (1, 3)


def test_a_queue_used_by_many_threads_loses_nothing(served: Served) -> None:
    served.worker.start()
    lock, sent = threading.Lock(), []

    def ask(number: int) -> bytes | int:
        job = job_of(str(number).encode(), side=1 + number % 3)
        while True:
            try:
                served.queue.put(job)
            except RequestError:
                time.sleep(0.001)
                continue
            with lock:
                sent.append(number)
            return outcome(job)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(1000)))
    assert answers == [str(number).encode() for number in range(1000)]
    assert sum(map(len, served.model.batches)) == len(sent) == 1000

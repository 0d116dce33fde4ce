"""Numbers for Prometheus. Each server has a registry of its own."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from condinst.memory import resident_memory
from condinst.serve.work.jobs import Queue

SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
SIZES = (1, 2, 3, 4, 8, 16)


class Metrics:
    """Counts requests and batches."""

    def __init__(self, queue: Queue) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("condinst_requests", "Answered requests.", ("path", "status"), registry=self.registry)
        self.seconds = Histogram(
            "condinst_request_seconds", "Time from a request to its answer.", ("path",), buckets=SECONDS,
            registry=self.registry,
        )  # fmt: skip
        self.batches = Histogram(
            "condinst_batch_pictures", "Pictures of a batch.", buckets=SIZES, registry=self.registry
        )
        self.work = Counter("condinst_worker_seconds", "Time that the worker predicted.", registry=self.registry)
        gauges: dict[str, tuple[str, Callable[[], float]]] = {
            "waiting_pictures": ("Pictures in the queue.", lambda: len(queue.waiting)),
            "busy_pictures": ("Pictures that the worker predicts.", lambda: len(queue.busy)),
            "resident_bytes": ("Memory of the process.", resident_memory),
        }
        for name, (text, value) in gauges.items():
            Gauge(f"condinst_{name}", text, registry=self.registry).set_function(value)

    def batch(self, pictures: int, seconds: float) -> None:
        """Count a batch of the worker."""
        self.batches.observe(pictures)
        self.work.inc(seconds)

    def answer(self, path: str, status: int, seconds: float) -> None:
        """Count an answer. path: of the route, not of the request."""
        self.requests.labels(path, str(status)).inc()
        self.seconds.labels(path).observe(seconds)

    def text(self) -> bytes:
        """All numbers in Prometheus' text format."""
        return generate_latest(self.registry)

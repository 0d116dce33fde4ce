"""Numbers for Prometheus. Each server has a registry of its own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from condinst.memory import resident_memory
from condinst.serve.jobs import Queue

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
        Gauge("condinst_waiting_pictures", "Pictures in the queue.", registry=self.registry).set_function(
            lambda: len(queue.waiting)
        )
        Gauge("condinst_resident_bytes", "Memory of the process.", registry=self.registry).set_function(resident_memory)

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

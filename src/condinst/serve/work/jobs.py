"""Requests that wait for the worker: a bounded queue that takes pictures of one size together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from condinst.inference.result import Result
from condinst.inference.settings import CallSettings
from condinst.serve.formats import Answer
from condinst.serve.refusal import RequestError
from condinst.serve.work.admission import Pace, excess, retry_after

HOPELESS = 2  # times the deadline that the tiles of a picture may be expected to take; the estimate is rough


@dataclass(frozen=True)
class Settings:
    """The settings of a request. None keeps the model's setting."""

    conf: float | None = None
    iou: float | None = None
    max_detections: int | None = None
    classes: tuple[int, ...] | None = None
    size: int | tuple[int, int] | None = None
    tile: int | str | None = None
    overlap: float | None = None

    def of_call(self) -> CallSettings:
        """The settings as arguments of a predictor."""
        return CallSettings(
            conf=self.conf, iou=self.iou, max_detections=self.max_detections, classes=self.classes, size=self.size,
            tile=self.tile, overlap=self.overlap,
        )  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """What pictures must share to run through the network together.

    shape: (height, width) of the resized picture, or of each resized tile. With one shape, no picture is padded because
    of another one. tiles: into how many the picture is cut.
    """

    model: str
    settings: Settings
    shape: tuple[int, int]
    tiles: int = 1

    @property
    def pixels(self) -> int:
        """Pixels of the resized picture or tile."""
        return self.shape[0] * self.shape[1]


@dataclass(eq=False)
class Job:
    """A picture to predict. render: makes the answer in the worker's thread. ends: the deadline on the monotonic clock.

    answer: the worker's answer. A cancelled job is not predicted. given_up: whether no client waits for it any longer.
    """

    kind: Kind
    content: bytes
    render: Callable[[Result], Answer]
    ends: float
    answer: Future[Answer] = field(default_factory=Future)
    given_up: bool = False


class Queue:
    """The waiting jobs, and those that the worker holds. Every method may run in any thread."""

    def __init__(self, most: int, deadline: float) -> None:
        self.most, self.deadline = most, deadline
        self.waiting: list[Job] = []
        self.busy: list[Job] = []
        self.paces: dict[str, Pace] = {}
        self.closed = ""  # the reason why no job is accepted
        self.changed = threading.Condition()

    def check(self, model: str, pixels: int) -> None:
        """Raise RequestError (503) if a picture of so many pixels would wait too long."""
        with self.changed:
            self._check(self.pace(model).seconds(pixels))

    def put(self, job: Job) -> None:
        """Add a job. Raises RequestError (503) as `check` does, and (413) for tiles that take far too long."""
        kind = job.kind
        with self.changed:
            own = self._seconds(kind)
            if kind.tiles > 1 and own > HOPELESS * self.deadline:
                what = f"{kind.tiles:,} tiles take about {own:.0f} s, and the deadline is {self.deadline:g} s"
                raise RequestError(413, f"{what}; send a smaller picture, or tile=off")
            self._check(own)
            self.waiting.append(job)
            self.changed.notify()

    def take(self, most: int, pixels: int) -> list[Job]:
        """Wait for a job and return it with later jobs of its kind: at most `most` jobs and `pixels` pixels together.

        A picture in tiles comes alone. Returns an empty list after `close`, when no job waits.
        """
        with self.changed:
            self.changed.wait_for(lambda: self.waiting or self.closed)
            if not self.waiting:
                return []
            kind = self.waiting[0].kind
            count = fitting(kind, most, pixels) if kind.tiles == 1 else 1
            self.busy = [job for job in self.waiting if job.kind == kind][:count]
            self.waiting = [job for job in self.waiting if job not in self.busy]
            return self.busy

    def drop(self, job: Job) -> None:
        """Take a job out of the queue if it still waits, and tell the worker that no client waits for it."""
        job.given_up = True
        with self.changed:
            if job in self.waiting:
                self.waiting.remove(job)

    def done(self) -> None:
        """Record that the worker has answered the jobs that it took."""
        with self.changed:
            self.busy = []

    def close(self, reason: str) -> None:
        """Accept no further job. The worker still answers the waiting ones."""
        with self.changed:
            self.closed = self.closed or reason
            self.changed.notify_all()

    def pace(self, model: str) -> Pace:
        """The pace of a model."""
        return self.paces.setdefault(model, Pace())

    @property
    def idle(self) -> bool:
        """Return whether no job waits and the worker holds none."""
        with self.changed:
            return not self.waiting and not self.busy

    def _seconds(self, kind: Kind) -> float:
        return kind.tiles * self.pace(kind.model).seconds(kind.pixels)

    def _check(self, own: float) -> None:
        """Raise RequestError (503) if a picture that takes `own` seconds would wait too long."""
        if self.closed:
            raise RequestError(503, self.closed, retry_after=5)
        ending = [job for job in self.busy if job.given_up and job.kind.tiles > 1]  # at most one more tile
        held = [job for job in (*self.busy, *self.waiting) if job not in ending]
        wait = sum(self._seconds(job.kind) for job in held)
        late = excess(wait, own, self.deadline)
        if late > 0 or len(self.waiting) >= self.most:
            what = f"{len(held)} pictures wait, about {wait:.1f} s"
            raise RequestError(503, f"the server is busy: {what}; try again later", retry_after=retry_after(late))


def fitting(kind: Kind, most: int, pixels: int) -> int:
    """How many pictures or tiles of a kind run through the network together: at least 1."""
    return min(max(pixels // kind.pixels, 1), most)


def seconds_left(job: Job) -> float:
    """Seconds until the deadline of a job."""
    return job.ends - time.monotonic()

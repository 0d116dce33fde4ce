"""The thread that predicts: it takes jobs from the queue and answers them one batch at a time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
from torch import Tensor

from condinst.errors import CondinstError, out_of_memory
from condinst.inference.result import Result
from condinst.predictor import Predictor
from condinst.serve.formats import Answer
from condinst.serve.models import Models
from condinst.serve.refusal import RequestError, refusal_of
from condinst.serve.work.jobs import Job, Queue, fitting, seconds_left
from condinst.structures import NetworkOutput

log = logging.getLogger("condinst.serve")
CPU_PIXELS = 4 * 256 * 256  # of a batch: on a CPU, larger batches take longer than their pictures one by one
FAILED = 500  # the status of an unexpected exception
PROBE = 64  # pixels of each side of the picture that tests a model

Outcome = Answer | RequestError
Forward = Callable[[Tensor], NetworkOutput]


class Worker(threading.Thread):
    """Answers all jobs. `broken` says why it had to end, or is empty.

    batch: most pictures of a batch. seen: called with the number of pictures of each batch and its seconds.
    """

    def __init__(self, models: Models, queue: Queue, batch: int, seen: Callable[[int, float], None]) -> None:
        super().__init__(name="condinst-worker", daemon=True)
        self.models, self.queue, self.batch, self.seen = models, queue, batch, seen
        on_cpu = all(predictor.device.type == "cpu" for predictor in models.predictors.values())
        self.pixels = CPU_PIXELS if on_cpu else 2**62
        self.broken = ""
        self.now: list[Job] = []  # the jobs that the network works on
        for predictor in models.predictors.values():
            predictor.network = predictor.network._replace(forward=self._guarded(predictor.network.forward))

    def warm_up(self) -> None:
        """Predict with each model, because the first prediction takes longer, and measure the pace of each model."""
        for name, predictor in self.models.predictors.items():
            side = predictor.config.input.shorter
            for _ in range(2):
                start = time.perf_counter()
                predictor(np.zeros((side, side, 3), dtype=np.uint8))
            self.queue.pace(name).add(time.perf_counter() - start, [side * side])

    def run(self) -> None:
        """Answer jobs until the queue is closed and empty, or until the worker is broken."""
        try:
            while self._answer_next():
                pass
        except BaseException as error:  # a fault of the worker itself
            log.exception("the worker failed")
            self.broken = f"the worker failed ({type(error).__name__})"
        if self.broken:
            self._give_up()

    def _answer_next(self) -> bool:
        """Answer one batch. Returns whether another may follow. Nothing of the batch stays in memory."""
        jobs = self.queue.take(self.batch, self.pixels)
        live = [job for job in jobs if _begin(job)]
        if live:
            self._work(live)
        self.queue.done()
        return bool(jobs) and not self.broken

    def _work(self, jobs: list[Job]) -> None:
        start = time.perf_counter()
        outcomes = self._answers(jobs)
        for job, outcome in zip(jobs, outcomes, strict=True):
            _finish(job.answer, outcome)
        seconds = time.perf_counter() - start
        errors = [outcome.status for outcome in outcomes if isinstance(outcome, RequestError)]
        if not errors:  # a damaged picture takes less time, and a failed one more
            passes = [job.kind.pixels for job in jobs for _ in range(job.kind.tiles)]
            self.queue.pace(jobs[0].kind.model).add(seconds, passes)
        if FAILED in errors:
            self._examine(self.models.predictors[jobs[0].kind.model])
        self.seen(len(jobs), seconds)

    def _answers(self, jobs: list[Job]) -> list[Outcome]:
        """The outcome of each job. After an unexpected exception, each job of the batch is tried alone."""
        predictor = self.models.predictors[jobs[0].kind.model]
        kind = jobs[0].kind
        together = len(jobs) if kind.tiles == 1 else fitting(kind, self.batch, self.pixels)
        self.now = jobs
        try:
            return predict_jobs(predictor, jobs, together)
        except RequestError as error:
            return [error for _ in jobs]
        except Exception as error:
            if len(jobs) == 1:
                return [_failure(error)]
        finally:
            self.now = []
        return [outcome for job in jobs for outcome in self._answers([job])]

    def _guarded(self, forward: Forward) -> Forward:
        """The network, which stops between two tiles when no client waits for their picture any longer."""

        def run(images: Tensor) -> NetworkOutput:
            if self.now and all(job.given_up for job in self.now):
                raise RequestError(504, "no client waits any longer")
            return forward(images)

        return run

    def _examine(self, predictor: Predictor) -> None:
        """Set `broken` if the model cannot predict any longer, for example after an error of the GPU."""
        try:
            predictor(np.zeros((PROBE, PROBE, 3), dtype=np.uint8), size=PROBE)
        except Exception as error:
            self.broken = f"the model cannot predict any longer ({type(error).__name__})"

    def _give_up(self) -> None:
        """Answer all jobs that have no answer yet, and accept no others."""
        self.queue.close(self.broken)
        jobs = self.queue.busy or self.queue.take(self.batch, self.pixels)
        while jobs:
            for job in jobs:
                if not job.answer.done() and (job.answer.running() or _begin(job)):
                    _finish(job.answer, RequestError(FAILED, self.broken))
            self.queue.done()
            jobs = self.queue.take(self.batch, self.pixels)


def predict_jobs(predictor: Predictor, jobs: list[Job], together: int) -> list[Outcome]:
    """Predict pictures of one kind. An error of a picture is its outcome; other exceptions are raised.

    together: pictures or tiles in one pass through the network.
    """
    found: list[Result | CondinstError] = []
    results = predictor.stream(
        [job.content for job in jobs],
        batch=together,
        on_error=lambda _, error: found.append(error),
        **jobs[0].kind.settings.of_call(),
    )
    for result in results:
        found.append(result)
    return [_outcome(job, one) for job, one in zip(jobs, found, strict=True)]


def _failure(error: Exception) -> RequestError:
    """The answer after an unexpected exception."""
    if out_of_memory(error):
        return RequestError(413, "not enough memory for the picture and its answer; scale the picture down")
    log.error("a prediction failed", exc_info=error)
    name = type(error).__name__
    return RequestError(FAILED, f"the prediction failed ({name}); the server's log has the cause")


def _outcome(job: Job, found: Result | CondinstError) -> Outcome:
    try:
        return refusal_of(found) if isinstance(found, CondinstError) else job.render(found)
    except CondinstError as error:
        return refusal_of(error)


def _begin(job: Job) -> bool:
    """Mark a job as running. Returns whether a client still waits for it."""
    if not job.answer.set_running_or_notify_cancel():
        return False
    if seconds_left(job) <= 0:
        job.answer.set_exception(RequestError(504, "the deadline passed while the picture waited", retry_after=1))
        return False
    return True


def _finish(answer: Future[Answer], outcome: Outcome) -> None:
    if isinstance(outcome, RequestError):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)

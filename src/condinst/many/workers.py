"""Several processes that predict shards. The parent hands out shards and starts a new process where one dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

import torch

from condinst.errors import CondinstError
from condinst.many.plan import Plan
from condinst.many.shard import Done, predict_shard
from condinst.predictor import Predictor

TRIES = 2  # that a shard gets if its process dies
Make = Callable[[str | None], Predictor]  # device, or None for the default → a predictor; can be pickled


class Job(NamedTuple):
    """What every worker does. make: makes the predictor of a process."""

    plan: Plan
    make: Make
    batch: int
    classes: Any


class Told(NamedTuple):
    """What became of a shard. error: why it is not done, or ""."""

    shard: int
    done: Done
    error: str


@dataclass
class Worker:
    """A process and its pipe. shard: what it works on, or None."""

    process: BaseProcess
    pipe: Connection
    number: int
    shard: int | None = None


def predict_shards(job: Job, shards: list[int], count: int, ready: Predictor | None = None) -> Iterator[Told]:
    """Predict the shards in `count` processes, and tell of each as soon as it ends. Closing the iterator ends them.

    The processes share the cores of this process, each with its own. On the CPU with one thread each they are forks
    and share the memory of one model: of `ready`, or else of a new predictor. With CUDA, they take the cards in turn.
    """
    context, threads, cards = _choose(count)
    predictor = (ready or job.make(None)) if context.get_start_method() == "fork" else None
    todo, tries = shards[::-1], Counter[int]()
    workers: list[Worker] = []
    cores = _cores()

    def start(number: int) -> Worker:
        ours, theirs = context.Pipe()
        own = cores[number * threads % len(cores) :][:threads]
        device = f"cuda:{number % cards}" if cards else None
        others = [worker.pipe for worker in workers] + [ours] if predictor is not None else []
        given = (job, predictor, theirs, own, device, threads, others)
        process = context.Process(target=_work, args=given, daemon=True)  # type: ignore[attr-defined]
        process.start()
        theirs.close()
        return Worker(process, ours, number)

    try:
        for number in range(min(count, len(shards))):
            workers.append(start(number))
        for worker in workers:
            _give(worker, todo)
        while any(worker.shard is not None for worker in workers):
            busy = [worker for worker in workers if worker.shard is not None]
            heard = wait([worker.pipe for worker in busy])
            for worker in (one for one in busy if one.pipe in heard):
                shard = worker.shard
                assert shard is not None
                try:
                    yield worker.pipe.recv()
                except (EOFError, ConnectionError):
                    worker.process.join()
                    tries[shard] += 1
                    if tries[shard] < TRIES:
                        todo.append(shard)
                    else:
                        yield Told(shard, Done(0, 0, 0), _death(worker, tries[shard]))
                    workers.remove(worker)
                    if not todo:
                        continue
                    worker = start(worker.number)
                    workers.append(worker)
                _give(worker, todo)
    finally:
        for worker in workers:
            with suppress(OSError):
                worker.pipe.close()
            worker.process.terminate()
        for worker in workers:
            worker.process.join()


def _choose(count: int) -> tuple[BaseContext, int, int]:
    """How processes start, the threads of each, and the number of cards."""
    cards = torch.cuda.device_count()
    threads = max(len(_cores()) // count, 1)
    forks = sys.platform == "linux" and threads == 1 and not cards
    return multiprocessing.get_context("fork" if forks else "spawn"), threads, cards


def _cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _give(worker: Worker, todo: list[int]) -> None:
    """Hand the next shard to a worker; without one, the worker ends."""
    worker.shard = todo.pop() if todo else None
    with suppress(OSError):  # a dead worker is noticed when its pipe is read
        worker.pipe.send(worker.shard)


def _death(worker: Worker, tries: int) -> str:
    code = worker.process.exitcode or 0
    how = f"by signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"with code {code}"
    hint = "; the memory may be too small: use fewer --workers" if code == -getattr(signal, "SIGKILL", 9) else ""
    return f"its process ended {tries} times, last {how}{hint}"


def _work(
    job: Job,
    predictor: Predictor | None,
    pipe: Connection,
    cores: list[int],
    device: str | None,
    threads: int,
    others: list[Connection],
) -> None:
    """A worker: predict shards until there are no more. Ctrl-C ends the parent, which ends the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for other in others:  # a fork has copies; open copies would hide the death of a worker
        other.close()
    if hasattr(os, "sched_setaffinity") and cores:
        os.sched_setaffinity(0, cores)
    torch.set_num_threads(threads)
    if predictor is None:
        predictor = job.make(device)
    while True:
        try:
            shard = pipe.recv()
        except EOFError:  # the parent is gone
            return
        if shard is None:
            return
        try:
            told = Told(shard, predict_shard(predictor, job.plan, shard, job.batch, job.classes), "")
        except CondinstError as error:
            told = Told(shard, Done(0, 0, 0), str(error))
        pipe.send(told)

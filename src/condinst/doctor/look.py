"""Looks at each picture of a data set with its objects, in several processes if there are many pictures."""

from __future__ import annotations

import os
import signal
from collections import Counter, deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import NamedTuple

from condinst.config import Config
from condinst.data.findings import Finding
from condinst.data.sample import Sample
from condinst.doctor.checks.copies import Fingerprint
from condinst.doctor.checks.duplicates import check_duplicates
from condinst.doctor.checks.pictures import check_picture
from condinst.doctor.checks.reach import check_reach
from condinst.doctor.checks.shapes import area_differs, check_shapes, draw
from condinst.doctor.checks.speckle import check_speckle
from condinst.errors import CondinstError

ENOUGH = 300  # pictures; with fewer, starting processes takes longer than they save
MOST_PROCESSES = 8
AT_ONCE = 8  # pictures sent to a process together


class Look(NamedTuple):
    """The facts about one picture.

    print: None if the picture is damaged. levels: number of objects of each pyramid level. other_area: number of
    objects that state another area than their mask has.
    """

    findings: tuple[Finding, ...]
    print: Fingerprint | None
    levels: Counter[int]
    other_area: int


def choose_processes(pictures: int) -> int:
    """Return how many processes to use for that many pictures on this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_PROCESSES) if pictures >= ENOUGH else 1


def look(sample: Sample, config: Config) -> Look:
    """Decode a picture and check it with its objects."""
    findings: list[Finding] = []
    print = check_picture(sample, findings.append, range=config.input.range)
    drawn = draw(sample)
    findings += check_shapes(sample, drawn)
    findings += check_speckle(sample, drawn)
    findings += check_duplicates(sample, drawn)
    levels = Counter(check_reach(sample, config, findings.append))
    return Look(tuple(findings), print, levels, sum(map(area_differs, sample.instances, drawn)))


def look_at_all(samples: Sequence[Sample], config: Config, processes: int) -> Generator[Look]:
    """Return the look at each sample, in their order. The samples in progress alone are copied to the processes.

    Raises CondinstError if a process ends early, for example because the memory is full.
    """
    if processes == 1:
        yield from (look(sample, config) for sample in samples)
        return
    # new processes: a fork would also copy locks that another thread of this process holds
    pool = ProcessPoolExecutor(processes, get_context("spawn"), _leave_ctrl_c_to_the_parent)
    waiting: deque[Future[list[Look]]] = deque()
    try:
        for first in range(0, len(samples), AT_ONCE):
            waiting.append(pool.submit(_look_at_some, samples[first : first + AT_ONCE], config))
            if len(waiting) > 2 * processes:  # a bounded number, so that the memory does not grow with the pictures
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    except BrokenProcessPool:
        raise CondinstError(
            "a process that checks pictures ended early, perhaps because the memory is full; free some memory and "
            "try again"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _look_at_some(samples: Sequence[Sample], config: Config) -> list[Look]:
    return [look(sample, config) for sample in samples]


def _leave_ctrl_c_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)

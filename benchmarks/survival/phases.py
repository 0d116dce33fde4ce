"""Kill a forked process in a chosen phase of its work, at a random moment of this phase."""

from __future__ import annotations

import json
import mmap
import os
import random
import signal
import struct
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from condinst.files import replace_file

BETWEEN = "between phases"
POLL = 0.001  # seconds between two looks at the process
MOST = 2  # times, at most, that a phase begins before the kill that aims at it


class Phases:
    """The phase of a forked process, in memory that it shares with its parent.

    For each phase, the memory also counts how often the phase began and how many seconds it has taken in all.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = (BETWEEN, *names)
        self.memory = mmap.mmap(-1, 8 + 16 * len(self.names))

    def reset(self) -> None:
        """Forget the last process."""
        self.memory[:] = bytes(len(self.memory))

    @contextmanager
    def within(self, name: str) -> Iterator[None]:
        """The process is in phase `name` in the block. Phases may lie within each other."""
        number, outer, began = self.names.index(name), self._now(), time.monotonic()
        count, seconds = self._totals(number)
        struct.pack_into("qd", self.memory, 8 + 16 * number, count + 1, seconds)
        struct.pack_into("q", self.memory, 0, number)
        try:
            yield
        finally:
            struct.pack_into("q", self.memory, 0, outer)
            struct.pack_into("qd", self.memory, 8 + 16 * number, count + 1, seconds + time.monotonic() - began)

    def wrap(self, place: Any, function: str, name: str, seconds: float = 0.0) -> None:
        """Replace a function of a module or class: it then runs in phase `name`, after a pause of `seconds`."""
        original = getattr(place, function)

        def wrapped(*inputs: Any, **options: Any) -> Any:
            with self.within(name):
                time.sleep(seconds)
                return original(*inputs, **options)

        setattr(place, function, wrapped)

    def now(self) -> str:
        """The phase that the process is in, or was in when it ended."""
        return self.names[self._now()]

    def begun(self, name: str) -> int:
        """How often the process has begun a phase."""
        return self._totals(self.names.index(name))[0]

    def totals(self) -> dict[str, tuple[int, float]]:
        """How often the process began each phase that it met, and the mean seconds of the phase."""
        found = {name: self._totals(number) for number, name in enumerate(self.names)}
        return {name: (count, seconds / count) for name, (count, seconds) in found.items() if count}

    def _now(self) -> int:
        return int(struct.unpack_from("q", self.memory, 0)[0])

    def _totals(self, number: int) -> tuple[int, float]:
        count, seconds = struct.unpack_from("qd", self.memory, 8 + 16 * number)
        return int(count), float(seconds)


def fork(run: Callable[[], object]) -> int:
    """Run a function in a forked process; returns the id of the process."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        run()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def finish(child: int) -> None:
    """Wait for a forked process. Raises AssertionError unless it succeeds."""
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == 0, f"exit code {code}"


def kill_within(
    run: Callable[[], object], phases: Phases, aim: str, times: int, chance: random.Random, seconds: float
) -> str | None:
    """Fork `run`. Kill it (SIGKILL) when its phase `aim` has begun `times` times and a part of `seconds` has passed.

    Returns the phase that the kill met; None if `run` ended before. Raises AssertionError if `run` fails.
    """
    phases.reset()
    child, moment = fork(run), chance.uniform(0, seconds)
    limit = None
    while limit is None or time.monotonic() < limit:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0, f"exit code {os.waitstatus_to_exitcode(status)}"
            return None
        if limit is None and phases.begun(aim) >= times:
            limit = time.monotonic() + moment
        time.sleep(POLL)
    os.kill(child, signal.SIGKILL)
    if os.waitpid(child, 0)[1] != signal.SIGKILL:  # it ended at the very moment
        return None
    return phases.now()


def kill_many(
    make: Callable[[int], Callable[[], object]],
    check: Callable[[int], None],
    phases: Phases,
    kills: int,
    each: int,
    chance: random.Random,
    whole: dict[str, tuple[int, float]],
) -> tuple[Counter[str], int]:
    """Kill runs until `kills` have been killed, one run `each` times at most; then let it end and check it.

    make: the run of a number; called again, it goes on. check: raises AssertionError if the ended run differs from a
    run that was left alone. whole: how often that run began each phase, and the mean seconds of the phase. Returns how
    many kills met each phase, and the number of runs.
    """
    met, number = Counter[str](), 0
    began = time.monotonic()
    while met.total() < kills:
        run, ended = make(number), False
        for _ in range(min(each, kills - met.total())):
            aim = chance.choice(list(whole))
            count, seconds = whole[aim]
            phase = kill_within(run, phases, aim, chance.randint(1, min(count, MOST)), chance, seconds)
            if phase is None:
                ended = True
                break
            met[phase] += 1
        if not ended:
            finish(fork(run))
        check(number)
        number += 1
        said = f"{met.total()} kills, {number} runs, all alike, {time.monotonic() - began:.0f} s"
        print(said, file=sys.stderr, flush=True)
    return met, number


def report(command: str, met: Counter[str], runs: int, seed: int, began: float, out: Path | None) -> None:
    """Print the result as one line of JSON and write it to a file, if there is one."""
    result = {
        "command": command,
        "kills": met.total(),
        "runs": runs,
        "different": 0,
        "met": dict(sorted(met.items())),
        "seed": seed,
        "seconds": round(time.monotonic() - began),
    }
    print(json.dumps(result))
    if out is not None:
        replace_file(out, (json.dumps(result, indent=1) + "\n").encode())

"""Each input in a process with limits. One forked process tries many inputs; one that hangs or dies is replaced."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import shutil
import signal
import time
import traceback
import warnings
from collections.abc import Generator, Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

from benchmarks.fuzz.mutate import damage
from benchmarks.fuzz.targets import try_input

SECONDS = 10  # of computing, for one input
PATIENCE = 300  # seconds by the clock; a busy machine needs minutes for seconds of computing
MEMORY = 2**30  # bytes above what the process holds before
CEILING = 6 * 2**30  # bytes of address space above that: a guard of the machine
AT_ONCE = 200  # inputs of one process
SHARES = {"picture": 30, "data": 36, "weights": 20, "run": 7, "settings": 7}


class Fault(NamedTuple):
    """number: of the input, from which it can be made again. sort: exception, hang, memory, crash or words."""

    number: int
    source: str
    sort: str
    text: str


def make_input(number: int, seed: int, inputs: dict[str, Path], place: Path) -> tuple[str, Path]:
    """Write the damaged input of that number to the empty folder `place`: its name and path."""
    random = Random(f"{seed}:{number}")
    kind = random.choices(list(SHARES), list(SHARES.values()))[0]
    name = random.choice(sorted(name for name in inputs if name.startswith(f"{kind}/")))
    source, path = inputs[name], place / inputs[name].name
    others = sorted(file for file in inputs.values() if file.is_file())
    if source.is_dir():
        shutil.copytree(source, path)
        files = sorted(file for file in path.rglob("*") if file.is_file())
        texts = [file for file in files if file.suffix in {".json", ".yaml", ".xml", ".txt", ".csv", ".jsonl"}]
        for _ in range(random.choice([1, 1, 1, 2])):
            damage(random.choice(texts if texts and random.random() < 0.6 else files), random, others)
    else:
        shutil.copy(source, path)
        damage(path, random, others)
    return name, path


def hunt(numbers: list[int], seed: int, inputs: dict[str, Path], scratch: Path) -> Iterator[tuple[int, list[Fault]]]:
    """Try the inputs of these numbers: after each, its number and its faults."""
    waiting = list(numbers)
    while waiting:
        tried, waiting = waiting[:AT_ONCE], waiting[AT_ONCE:]
        while tried:
            done = yield from _one_process(tried, seed, inputs, scratch)
            tried = tried[done:]


def _one_process(
    numbers: list[int], seed: int, inputs: dict[str, Path], scratch: Path
) -> Generator[tuple[int, list[Fault]], None, int]:
    """Fork once; returns how many inputs were tried, the last of which may have ended the process."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _work(numbers, seed, inputs, scratch, writing)
    os.close(writing)
    done = 0
    with os.fdopen(reading, "rb") as stream:
        while done < len(numbers):
            ready = select.select([stream], [], [], PATIENCE)[0]
            line = stream.readline() if ready else b""
            if not line:
                break
            sort, _, rest = line.decode("utf-8", "replace").rstrip("\n").partition("\t")
            name, _, text = rest.partition("\t")
            text = text.replace("\x01", "\n")
            yield numbers[done], [Fault(numbers[done], name, sort, text)] if sort != "fine" else []
            done += 1
        if done < len(numbers):
            os.kill(child, signal.SIGKILL) if not _ended(child) else None
            status = _wait(child)
            sort = "hang" if status in {-signal.SIGPROF, -signal.SIGKILL} else "crash"
            yield numbers[done], [Fault(numbers[done], "", sort, f"the process ended with {status}")]
            return done + 1
    _wait(child)
    return done


def _ended(child: int) -> bool:
    """Whether the process ends by itself within a second."""
    for _ in range(100):
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return True
        time.sleep(0.01)
    return False


def _wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _work(numbers: list[int], seed: int, inputs: dict[str, Path], scratch: Path, writing: int) -> None:
    """In the forked process: never returns."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        warnings.simplefilter("ignore")
        space = _status("VmSize") + CEILING
        resource.setrlimit(resource.RLIMIT_AS, (space, space))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        for number in numbers:
            shutil.rmtree(scratch, ignore_errors=True)
            (scratch / "out").mkdir(parents=True)
            (scratch / "in").mkdir()
            name, path = make_input(number, seed, inputs, scratch / "in")
            sort, text = _try(name, path, scratch / "out")
            line = "\t".join([sort, name, text.replace("\n", "\x01").replace("\t", " ")[:6000]])
            os.write(writing, line.encode("utf-8", "backslashreplace") + b"\n")
    finally:
        os._exit(0)


def _try(name: str, path: Path, scratch: Path) -> tuple[str, str]:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the highest memory from now on
    before = _status("VmRSS")
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        lines = try_input(name.partition("/")[0], path, scratch)
    except BaseException:
        return "exception", "\n".join(line[:300] for line in traceback.format_exc(limit=-8).splitlines())
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    above = _status("VmHWM") - before
    if above > MEMORY:
        return "memory", f"{above / 2**20:.0f} MB above what was held before; {lines[:2]}"
    # the command line escapes what a terminal would obey; breaks of the line are no one's intention
    odd = next((line for line in lines if "\n" in line or len(line) > 3000), None)
    return ("words", f"no single, short line: {odd!a:.600}") if odd else ("fine", "")


def _status(field: str) -> int:
    """Bytes, from the kernel's account of this process."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition(f"{field}:")[2].split()[0]) * 1024

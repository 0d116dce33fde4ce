"""How everything about speed is measured: one allocator for all, contestants in turn, medians, memory in a new process.

Each script that measures is one command and writes benchmarks/results/NAME-DEVICE.json. A contestant is a function
without arguments; what it returns are times that it took inside itself, in milliseconds.
"""

from __future__ import annotations

import gc
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal

import torch
import typer

from benchmarks.facts import RESULTS, ROOT, Facts, read_facts, run_command
from condinst.errors import CondinstError, UsageError
from condinst.files import replace_file

# by default glibc gives freed memory back to the system and asks for it anew, page by page, which takes longer than
# some of the work measured here; these settings make it keep it
KEEP, KEPT = "--keep-pages", "-kept-pages"  # the option, and what it adds to a record's name
KEPT_PAGES = {
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_MMAP_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "500000000",
}
TURN = "turn:"  # begins what a contestant's process says of a run
PROCESSES = 2  # that measure one contestant's memory
PACKAGES = ("condinst", "torch", "torchvision", "timm", "numpy", "pillow", "hotcoco", "pycocotools", "ultralytics")
REFERENCE, EXACT, FAST, COMPILED = "reference", "exact", "fast", "compiled"  # the last three: modes of the predictor

Unit = Literal["ms", "MB"]
Work = Callable[[], Mapping[str, float] | None]
Device = Annotated[str, typer.Option(help="cpu, or cuda for a graphics card.")]
Rounds = Annotated[int, typer.Option(help="How often each contestant runs, in turn with the others.")]
Threads = Annotated[int, typer.Option(help="Of every contestant; 0: as many as the process has cores.")]
KeepPages = Annotated[bool, typer.Option(KEEP, help="Contestants keep the memory they free; only time is measured.")]
Out = Annotated[Path, typer.Option(help="Folder of the JSON file.")]


class Machine(Facts):
    """Where it was measured. allocator: glibc's settings, the same for all contestants."""

    cpu: str
    cores: int
    memory_gb: float
    device: str  # the graphics card's name, or "CPU"
    system: str
    threads: int
    allocator: dict[str, str]
    versions: dict[str, str]


class Measurement(Facts):
    """`who` did `what`. at: the number on a curve's axis, 0 elsewhere. values: every round, in order."""

    what: str
    who: str
    unit: Unit
    at: float = 0
    median: float
    values: tuple[float, ...]


class Record(Facts):
    """What a benchmark's JSON file holds. settings: facts about the input, in words."""

    benchmark: str
    command: str
    device: str
    machine: Machine
    settings: dict[str, str]
    measurements: tuple[Measurement, ...]


def run_benchmark(main: Callable[..., None]) -> None:
    """`main` as a command, in a process that has glibc's own settings, or those of KEPT_PAGES, from its start."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    wanted = plain | KEPT_PAGES if KEEP in sys.argv else plain
    if wanted != dict(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], wanted)
    run_command(main)


def run_program(line: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """What a program printed. Raises CondinstError with its last line if it fails."""
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CondinstError(f"{' '.join(line)}: {_last_line(done.stderr, done.returncode)}")
    return done


def set_threads(threads: int) -> int:
    """How many threads torch uses from now on; 0: one for each core this process may use."""
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    return torch.get_num_threads()


def race(
    contestants: Mapping[str, Work], what: str, rounds: int, device: str = "cpu", at: float = 0, repeats: int = 1
) -> list[Measurement]:
    """Times of each contestant, run in turn (A B A B …) after a warm-up each; its own times become `what, part`.

    repeats: runs between two looks at the clock; waiting for a graphics card takes longer than short work on it.
    """
    threads = torch.get_num_threads()
    times: dict[tuple[str, str], list[float]] = {}
    for run in contestants.values():
        run()
    for _ in range(rounds):
        for who, run in contestants.items():
            torch.set_num_threads(threads)  # some rivals change it
            gc.collect()
            synchronize(device)
            start = time.perf_counter()
            for _ in range(repeats):
                parts = run()
            synchronize(device)
            times.setdefault((what, who), []).append(1000 * (time.perf_counter() - start) / repeats)
            for part, milliseconds in (parts or {}).items():
                times.setdefault((f"{what}, {part}", who), []).append(milliseconds)
    return [show(measurement(name, who, "ms", values, at)) for (name, who), values in times.items()]


def race_apart(
    module: str, function: str, what: str, contestants: Mapping[str, Mapping[str, Any]], rounds: int, device: str
) -> list[Measurement]:
    """As `race`, each contestant in a process of its own: what the allocator learnt from one says nothing to another.

    `function` of the benchmark `module` makes a contestant from `device` and its arguments, by name in `contestants`.
    """
    times: dict[tuple[str, str], list[float]] = {}
    with ExitStack() as stack:
        # one after the other: each is made and warmed up while none of the others runs
        runs = {
            who: stack.enter_context(_own_process(module, function, device, given))
            for who, given in contestants.items()
        }
        for _ in range(rounds):
            for who, run in runs.items():
                whole, parts = run()
                times.setdefault((what, who), []).append(whole)
                for part, milliseconds in parts.items():
                    times.setdefault((f"{what}, {part}", who), []).append(milliseconds)
    return [show(measurement(name, who, "ms", values)) for (name, who), values in times.items()]


@contextmanager
def _own_process(
    module: str, function: str, device: str, arguments: Mapping[str, Any]
) -> Iterator[Callable[[], tuple[float, Mapping[str, float]]]]:
    """Runs a contestant that has been made and warmed up: milliseconds in all and by part."""
    line = _line("turn", module, function, device, arguments)
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(
            line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True, cwd=ROOT
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None

        def answer() -> str:
            for words in process.stdout or ():
                if words.startswith(TURN):
                    return words.removeprefix(TURN)
            said.seek(0)
            raise CondinstError(f"{module}.{function}({arguments}): {_last_line(said.read(), process.wait())}")

        def run() -> tuple[float, Mapping[str, float]]:
            print(file=process.stdin, flush=True)
            whole, parts = json.loads(answer())
            return whole, parts

        answer()
        yield run


def _line(script: str, module: str, function: str, device: str, arguments: Mapping[str, Any]) -> list[str]:
    line = [sys.executable, "-m", f"benchmarks.speed.{script}", module, function, device]
    return [*line, str(torch.get_num_threads()), json.dumps(dict(arguments))]


def _last_line(said: str, code: int) -> str:
    return (said.strip().splitlines() or [f"ended by {code}"])[-1]


def measurement(what: str, who: str, unit: Unit, values: Sequence[float], at: float = 0) -> Measurement:
    """Rounded to four digits behind the point."""
    rounded = tuple(round(value, 4) for value in values)
    return Measurement(what=what, who=who, unit=unit, at=at, median=round(median(values), 4), values=rounded)


def show(one: Measurement) -> Measurement:
    """Printed as soon as it is known: a benchmark takes minutes."""
    print(f"{one.what}{f' at {one.at:g}' if one.at else ''}: {one.who} {one.median:.4g} {one.unit}", flush=True)
    return one


def synchronize(device: str) -> None:
    """Wait until a graphics card has done its work."""
    if device != "cpu":
        torch.cuda.synchronize(device)


def peak_memory(
    module: str,
    function: str,
    what: str,
    who: str,
    device: str,
    arguments: Mapping[str, Any],
    at: float = 0,
    processes: int = PROCESSES,
) -> Measurement:
    """Megabytes (10⁶ bytes) that a contestant needs at most, above what it holds before its first run.

    `function` of the benchmark `module` makes the contestant from `device` and `arguments`, in a process of its own,
    and again in further ones: how memory falls apart differs between them. The value of a process is the larger of two
    runs; the first includes what is prepared once (code loaded late, compilation). On the CPU it is resident memory:
    unused pages are given back to the system before each run, then the kernel's high-water mark is reset. On a graphics
    card it is what torch allocates there.
    """
    line = _line("peak", module, function, device, arguments)
    peaks = []
    for _ in range(processes):
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CondinstError(f"{module}.{function}({arguments}): {_last_line(done.stderr, done.returncode)}")
        peaks.append(float(done.stdout.splitlines()[-1]) / 1e6)
    return show(measurement(f"{what}, peak memory", who, "MB", peaks, at))


def save(
    benchmark: str,
    device: str,
    settings: Mapping[str, str],
    measurements: Sequence[Measurement],
    out: Path,
    keep_pages: bool = False,
) -> None:
    """Write the JSON file."""
    record = Record(
        benchmark=benchmark,
        command=command_line(),
        device=device,
        machine=describe_machine(device),
        settings=dict(settings),
        measurements=tuple(measurements),
    )
    out.mkdir(parents=True, exist_ok=True)
    name = file_name(benchmark, device, keep_pages)
    replace_file(out / f"{name}.json", (record.model_dump_json(indent=1) + "\n").encode())


def file_name(benchmark: str, device: str, keep_pages: bool) -> str:
    """Of a record, without its ending."""
    return f"{benchmark}-{device}{KEPT if keep_pages else ''}"


def load(name: str, folder: Path = RESULTS) -> Record | None:
    """What was measured, None where nothing was; raises DataError for a file of another layout."""
    path = folder / f"{name}.json"
    return read_facts(path, Record) if path.is_file() else None


def find(record: Record, what: str, who: str, at: float = 0) -> Measurement | None:
    """The measurement of that name."""
    same = [one for one in record.measurements if (one.what, one.who, one.at) == (what, who, at)]
    return same[0] if same else None


def check_device(device: str) -> None:
    """Raises UsageError for a device that is not there or not meant."""
    if device not in {"cpu", "cuda"} or (device == "cuda" and not torch.cuda.is_available()):
        raise UsageError(f"--device {device}: cannot be used here; cpu can")


def command_line() -> str:
    """What was typed, from the repository's root; `--out` says nothing about the numbers."""
    words = [word for word, before in zip(sys.argv[1:], sys.argv, strict=False) if "--out" not in (word, before)]
    module = Path(sys.argv[0]).relative_to(ROOT).with_suffix("").parts
    return " ".join(["python -m", ".".join(module), *words])


def describe_machine(device: str) -> Machine:
    """This machine, as far as it matters for time."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return Machine(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)),
        memory_gb=round(pages / 1e9, 1),
        device="CPU" if device == "cpu" else torch.cuda.get_device_name(device),
        system=f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}".strip(),
        threads=torch.get_num_threads(),
        allocator={name: os.environ.get(name, "default") for name in KEPT_PAGES},
        versions=versions,
    )


def _cpu() -> str:
    """Model, and the instructions that decide how fast it multiplies."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    facts = dict(line.replace("\t", "").split(":", 1) for line in lines if ":" in line)
    flags = facts.get("flags", "").split()
    known = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "AVX-512 bfloat16", "amx_bf16": "AMX bfloat16"}
    return ", ".join([facts.get("model name", platform.machine()).strip(), *(known[k] for k in known if k in flags)])

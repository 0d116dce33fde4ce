"""The load test of `condinst serve`.

    python -m benchmarks.serving.load

For pictures of 192 and of 640 pixels, the program measures the capacity with 8 clients, then offers 1, 2 and 4 times as
many requests a second, at random moments. Then some clients misbehave beside the ordinary ones, and some predictions
raise an exception. A long run of small requests shows whether memory grows. The server computes on its own threads; the
clients run in this process. Results go to benchmarks/results/serving-cpu.json.
"""

from __future__ import annotations

import asyncio
import io
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from benchmarks.facts import RESULTS, ROOT, run_command
from benchmarks.serving.client import Outcome, Target
from benchmarks.serving.hostile import misbehave
from benchmarks.serving.record import Load, Long, Serving, summary
from benchmarks.serving.server import Server, running
from benchmarks.speed.measure import describe_machine, set_threads
from condinst.files import replace_file

DEADLINES = {192: 0.8, 640: 3.0}  # seconds
FACTORS = (1, 2, 4)
CLIENTS = 8
CAPACITY = f"{CLIENTS} clients in turn"
MODEL = "nuclei"
SMALL = 64  # pixels of the long run
SHIFT = 8  # pixels between the crops that make the pictures differ


def main(
    seconds: Annotated[float, typer.Option(help="Of each run of ordinary requests.")] = 20,
    requests: Annotated[int, typer.Option(help="Of the long run.")] = 10_000,
    threads: Annotated[int, typer.Option(help="That the server computes with.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder of the JSON file.")] = RESULTS,
) -> None:
    """Measure a server under load."""
    set_threads(threads)
    loads: list[Load] = []
    for size, deadline in DEADLINES.items():
        with running(threads, "--deadline", "60") as server:
            loads.append(asyncio.run(capacity(server, size, seconds)))
        rate = loads[-1].answers_per_second
        with running(threads, "--deadline", str(deadline), "--body-timeout", "2", "--max-body", "2") as server:
            loads += asyncio.run(ordinary(server, size, seconds, rate))
            loads.append(asyncio.run(hostile(server, size, seconds, rate)))
        with running(threads, "--deadline", str(deadline), faulty=True) as server:
            loads.append(asyncio.run(faults(server, size, seconds, rate)))
    with running(threads, "--max-body", "2") as server:
        long = asyncio.run(many(server, requests))
        status = server.stop()
    record = Serving(
        command=f"python -m benchmarks.serving.load {' '.join(_words(sys.argv[1:]))}".rstrip(),
        machine=describe_machine("cpu"),
        model=MODEL,
        deadlines={str(size): deadline for size, deadline in DEADLINES.items()},
        loads=tuple(loads),
        long=long,
        exit_status=status,
    )
    out.mkdir(parents=True, exist_ok=True)
    replace_file(out / "serving-cpu.json", (record.model_dump_json(indent=1) + "\n").encode())


async def capacity(server: Server, size: int, seconds: float) -> Load:
    """Answers a second while the queue is never empty."""
    targets = requests_for(server, size)
    await closed_loop(targets, CLIENTS, seconds / 4)  # the first answers take longer
    start = time.perf_counter()
    outcomes = await closed_loop(targets, CLIENTS, seconds)
    return summary(CAPACITY, size, 0, time.perf_counter() - start, outcomes, server.resident_mib)


async def ordinary(server: Server, size: int, seconds: float, rate: float) -> list[Load]:
    """Offered loads of 1, 2 and 4 times the capacity."""
    found = []
    for factor in FACTORS:
        outcomes, took = await open_loop(requests_for(server, size), factor * rate, seconds)
        found.append(summary(f"{factor}× capacity", size, factor * rate, took, outcomes, server.resident_mib))
    return found


async def hostile(server: Server, size: int, seconds: float, rate: float) -> Load:
    """Ordinary requests at three quarters of the capacity, beside clients that misbehave."""
    targets = requests_for(server, size)
    trouble = asyncio.ensure_future(misbehave(targets[0], seconds))
    outcomes, took = await open_loop(targets, 0.75 * rate, seconds)
    await trouble
    return summary("0.75× capacity beside bad clients", size, 0.75 * rate, took, outcomes, server.resident_mib)


async def faults(server: Server, size: int, seconds: float, rate: float) -> Load:
    """Requests at half the capacity. In one of ten, the prediction raises an exception."""
    bodies = pictures(size)
    targets = [
        Target(
            server.port,
            f"/v1/predict?size={size}{'&conf=0.9' if number % 10 == 0 else ''}",
            bodies[number % len(bodies)],
        )
        for number in range(40)
    ]
    outcomes, took = await open_loop(targets, 0.5 * rate, seconds)
    return summary("0.5× capacity, one prediction of ten fails", size, 0.5 * rate, took, outcomes, server.resident_mib)


async def many(server: Server, requests: int) -> Long:
    """A long run: 4 clients in turn, one request of ten is bad."""
    bodies = pictures(192)
    good = [Target(server.port, f"/v1/predict?size={SMALL}", body) for body in bodies]
    bad = [
        Target(server.port, "/v1/predict", b"no picture"),
        Target(server.port, "/v1/predict", bodies[0][:5000]),
        Target(server.port, "/v1/predict?conf=7", bodies[0]),
        Target(server.port, "/v1/predict", bytes(3_000_000)),
    ]
    statuses: Counter[str] = Counter()
    memory = []
    start = time.perf_counter()
    tenth = max(requests // 10, 1)
    for _ in range(10):
        work = iter([good[n % len(good)] if n % 10 else bad[n // 10 % len(bad)] for n in range(tenth)])
        for outcomes in await asyncio.gather(*(ask_all(work) for _ in range(4))):
            statuses.update(str(outcome.status) for outcome in outcomes)
        memory.append(server.resident_mib)
        print(f"{sum(statuses.values())} requests, {memory[-1]} MiB", flush=True)
    took = round(time.perf_counter() - start, 1)
    lost = statuses.pop("0", 0)
    return Long(requests=10 * tenth, seconds=took, statuses=statuses, lost=lost, resident_mib=tuple(memory))


async def ask_all(work: Iterator[Target]) -> list[Outcome]:
    """A client that shares its requests with others."""
    return [await target.ask() for target in work]


def requests_for(server: Server, size: int) -> list[Target]:
    """A request for each picture."""
    return [Target(server.port, f"/v1/predict?size={size}", body) for body in pictures(size)]


async def closed_loop(targets: Sequence[Target], clients: int, seconds: float) -> list[Outcome]:
    """Clients that send the next request after the answer to the last one."""
    end = time.perf_counter() + seconds

    async def client(number: int) -> list[Outcome]:
        outcomes = []
        while time.perf_counter() < end:
            outcomes.append(await targets[(number + len(outcomes)) % len(targets)].ask())
        return outcomes

    return [outcome for each in await asyncio.gather(*map(client, range(clients))) for outcome in each]


async def open_loop(targets: Sequence[Target], rate: float, seconds: float) -> tuple[list[Outcome], float]:
    """Requests at random moments, on average `rate` a second, whether or not earlier ones have an answer."""
    rng = np.random.default_rng(0)
    waits = rng.exponential(1 / rate, max(int(rate * seconds), 1))
    start = time.perf_counter()
    tasks = []
    for number, moment in enumerate(np.cumsum(waits)):
        await asyncio.sleep(max(start + moment - time.perf_counter(), 0))
        tasks.append(asyncio.ensure_future(targets[number % len(targets)].ask()))
    outcomes = await asyncio.gather(*tasks)
    return outcomes, time.perf_counter() - start


def pictures(size: int) -> list[bytes]:
    """Eight square PNG files of `size` pixels: crops of a sample image."""
    path = ROOT / "examples" / "images" / "nuclei" / "fluorescence_large.png"
    with Image.open(path) as image:
        whole = np.asarray(image.convert("RGB"))
    whole = np.tile(whole, (-(-(size + 8 * SHIFT) // whole.shape[0]), -(-(size + 8 * SHIFT) // whole.shape[1]), 1))
    files = []
    for shift in range(0, 8 * SHIFT, SHIFT):
        file = io.BytesIO()
        Image.fromarray(whole[shift : shift + size, shift : shift + size]).save(file, "PNG")
        files.append(file.getvalue())
    return files


def _words(arguments: Sequence[str]) -> list[str]:
    """The arguments without --out, which says nothing about the numbers."""
    return [word for word, before in zip(arguments, ["", *arguments], strict=False) if "--out" not in (word, before)]


if __name__ == "__main__":
    run_command(main)

"""Simulate failures of a run over ten million pictures on many machines, for several sizes of a shard.

    python -m benchmarks.survival.simulate_shards --out benchmarks/results/simulated-shards.json

Each machine has a fixed part of the shards (`condinst predict --shard 3/64`) and some workers. A worker takes the next
shard when it is free. Machines fail at random moments, each as often as the others, and start again after a pause. A
failure loses what its workers have done of their shards; finished shards stay. The seconds of a picture vary as a
lognormal distribution. The program counts work that was done twice, and the time until the last machine is done.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import random
from dataclasses import dataclass
from pathlib import Path

SIZES = (10, 100, 1_000, 10_000, 100_000)  # pictures of a shard
HOURS = 3600.0


@dataclass(frozen=True)
class Fleet:
    """What is simulated.

    seconds: of a picture, the mean. spread: of the logarithm of a shard's mean. hours: the mean between two failures of
    a machine. pause: seconds until a failed machine works again. overhead: seconds of each shard.
    """

    pictures: int
    machines: int
    workers: int
    seconds: float
    spread: float
    hours: float
    pause: float
    overhead: float


@dataclass
class Outcome:
    """What a run took.

    size: pictures of a shard. shards: how many. hours: until the last machine is done. ideal: the hours without
    failures, spread and overhead. lost: part of all work that was done again. failures: of machines.
    """

    size: int
    shards: int
    hours: float
    ideal: float
    lost: float
    failures: int


def simulate(fleet: Fleet, size: int, seed: int) -> Outcome:
    """One run with shards of `size` pictures."""
    chance = random.Random(seed * 1_000_003 + size)
    shards = math.ceil(fleet.pictures / size)
    last, lost, useful, failures = 0.0, 0.0, 0.0, 0
    for machine in range(fleet.machines):
        own = len(range(machine, shards, fleet.machines))
        end, again, work, failed = _machine(fleet, own, size, chance)
        last, lost, useful, failures = max(last, end), lost + again, useful + work, failures + failed
    ideal = fleet.pictures * fleet.seconds / (fleet.machines * fleet.workers)
    return Outcome(size, shards, last / HOURS, ideal / HOURS, lost / max(useful, 1e-9), failures)


def _machine(fleet: Fleet, shards: int, size: int, chance: random.Random) -> tuple[float, float, float, int]:
    """The seconds until a machine is done, seconds of work lost and of useful work, and failures."""
    waiting = [_duration(fleet, size, chance) for _ in range(shards)]
    now = again = useful = 0.0
    failures = 0
    while waiting:
        failure = now + chance.expovariate(1 / (fleet.hours * HOURS))
        running: list[tuple[float, float, float]] = []  # end, start, duration
        while waiting and len(running) < fleet.workers:
            heapq.heappush(running, _begin(now, waiting.pop()))
        while running and running[0][0] <= failure:
            end, _, duration = heapq.heappop(running)
            now, useful = end, useful + duration
            if waiting:
                heapq.heappush(running, _begin(end, waiting.pop()))
        if running:  # the machine fails before they end
            failures += 1
            again += sum(failure - start for _, start, _ in running)
            waiting += [duration for _, _, duration in running]
            now = failure + fleet.pause
    return now, again, useful, failures


def _begin(now: float, duration: float) -> tuple[float, float, float]:
    return now + duration, now, duration


def _duration(fleet: Fleet, size: int, chance: random.Random) -> float:
    mean = chance.lognormvariate(-(fleet.spread**2) / 2, fleet.spread)
    return fleet.overhead + size * fleet.seconds * mean


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", type=int, default=10_000_000)
    parser.add_argument("--machines", type=int, default=64)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=0.16, help="of a picture on one core")
    parser.add_argument("--spread", type=float, default=0.3)
    parser.add_argument("--hours", type=float, nargs="+", default=[2.0, 24.0], help="between two failures of a machine")
    parser.add_argument("--pause", type=float, default=300.0)
    parser.add_argument("--overhead", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows = []
    for hours in args.hours:
        fleet = Fleet(
            args.pictures, args.machines, args.workers, args.seconds, args.spread, hours, args.pause, args.overhead
        )
        for size in SIZES:
            found = simulate(fleet, size, args.seed)
            rows.append({"hours_between_failures": hours, **vars(found)})
            print(
                f"a failure every {hours:g} h, shards of {size}: {found.shards} shards, {found.hours:.2f} h (ideal "
                f"{found.ideal:.2f} h), {found.lost:.1%} done again, {found.failures} failures"
            )
    if args.out:
        settings = {name: value for name, value in vars(args).items() if name != "out"}
        args.out.write_text(json.dumps({"settings": settings, "runs": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

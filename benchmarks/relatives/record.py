"""What benchmarks/family.py measured, as it lies in benchmarks/results/relatives/."""

from __future__ import annotations

from pathlib import Path

from benchmarks.facts import RESULTS, Facts, read_facts

FOLDER = RESULTS / "relatives"


class Point(Facts):
    """What a model has learned.

    pictures: seen in training. seconds: CPU time of training. mask, mask50, mask75: AP of the masks, over all IoU, at
    0.50 and at 0.75. boundary: boundary AP. box: AP of the boxes. All are −1 where there is nothing to measure.
    """

    pictures: int
    seconds: float
    mask: float
    mask50: float
    mask75: float
    boundary: float
    box: float


class Run(Facts):
    """One training.

    parameters, mask_parameters: numbers that the network learns, and those of them that serve masks alone. megabytes:
    of 10⁶ bytes, the peak of the training's resident memory. pictures, time: after as many pictures, and after as much
    time, as all others of the same data. points: in the order of training.
    """

    parameters: int
    mask_parameters: int
    megabytes: int
    pictures: Point
    time: Point
    points: tuple[Point, ...]


class Cost(Facts):
    """What 100 more instances of one picture cost. milliseconds: with one thread. megabytes: of 10⁶ bytes."""

    milliseconds: float
    megabytes: float


class Comparison(Facts):
    """Of one data set and seed. seconds: the CPU time that all have. runs, costs: by the name of the entry."""

    data: str
    seed: int
    command: str
    machine: str
    pictures: int
    seconds: float
    limit: int
    runs: dict[str, Run]
    costs: dict[str, Cost]


def read_comparisons(folder: Path = FOLDER) -> list[Comparison]:
    """All comparisons, by data set and seed."""
    return [read_facts(path, Comparison) for path in sorted(folder.glob("*.json"))]

"""Curves of a training run, from the tables in its folder: losses, learning rate, scores on held-out pictures."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from condinst.engine.run_folder.log import GPU_MEMORY, ITERATION, MEMORY, READERS, SPEED
from condinst.engine.run_folder.own_files import LOG, SCORE_TABLE
from condinst.ops.drawing.chart import Line, Span, plot
from condinst.ops.drawing.page import Part, drawing

POINTS = 300  # of a curve; longer ones are means of neighbours
NO_LOSSES = (ITERATION, SPEED, MEMORY, READERS, GPU_MEMORY, "grad_norm", "lr")
SCORES = {"mask_AP": "mask AP", "mask_AP50": "mask AP50", "box_AP": "box AP", "box_AP50": "box AP50"}

Curve = list[tuple[float, float]]


def draw_training(run: Path) -> list[Part]:
    """Draw the folder's tables as curves; return nothing if there are no tables."""
    log, scores = read_columns(run / LOG), read_columns(run / SCORE_TABLE)
    losses = {name: curve for name, curve in log.items() if name not in NO_LOSSES and any(y for _, y in curve)}
    named = {words: [point for point in scores.get(name, []) if point[1] >= 0] for name, words in SCORES.items()}
    charts = (
        ("Losses, already weighted", "", losses),
        ("Learning rate", "", {name: curve for name, curve in log.items() if name == "lr"}),
        (
            "Norm of the gradient before clipping",
            "",
            {name: curve for name, curve in log.items() if name == "grad_norm"},
        ),
        ("On held-out pictures", "AP", {name: curve for name, curve in named.items() if curve}),
    )
    return [drawing(_chart(title, unit, curves)) for title, unit, curves in charts if any(curves.values())]


def read_columns(path: Path) -> dict[str, Curve]:
    """Each column of a CSV file as points (iteration, value); rows cut off in writing and what is no number are left
    out. Empty if there is no such file.
    """
    columns: dict[str, Curve] = {}
    if not path.is_file():
        return columns
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        for row in csv.DictReader(file):
            numbers = {name: _number(text) for name, text in row.items() if name}
            at = numbers.pop(ITERATION, math.nan)
            for name, value in numbers.items():
                if math.isfinite(at) and math.isfinite(value):
                    columns.setdefault(name, []).append((at, value))
    return columns


def thin(curve: Curve) -> Curve:
    """At most POINTS points, means of as many neighbours each."""
    size = max(1, -(-len(curve) // POINTS))
    groups = [curve[start : start + size] for start in range(0, len(curve), size)]
    return [(sum(x for x, _ in some) / len(some), sum(y for _, y in some) / len(some)) for some in groups]


def _chart(title: str, unit: str, curves: dict[str, Curve]) -> str:
    lines = [Line(name, thin(curve)) for name, curve in curves.items()]
    return plot(title, "iteration", unit, lines, y_span=Span(0, 0), paper=False)


def _number(text: object) -> float:
    try:
        return float(str(text))
    except ValueError:
        return math.nan

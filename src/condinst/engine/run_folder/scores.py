"""The record of a run's measurements: scores.jsonl has all that was found, scores.csv the numbers alone."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from condinst.engine.run_folder.log import append_row, forget_rows, unwritable
from condinst.evaluation.evaluate import Scores
from condinst.files import replace_file

LINES, TABLE = "scores.jsonl", "scores.csv"


def record_scores(scores: Scores, folder: Path, iteration: int) -> dict[str, float]:
    """Append to both files; returns the numbers by name. Raises CondinstError if they cannot be written."""
    numbers = {f"box_{name}": value for name, value in asdict(scores.bbox).items()}
    numbers |= {f"mask_{name}": value for name, value in asdict(scores.segm).items()}
    line = json.dumps({"iteration": iteration, **scores.to_dict()}) + "\n"
    try:
        with (folder / LINES).open("a", encoding="utf-8") as file:
            file.write(line)
    except OSError as error:
        raise unwritable(folder / LINES, error) from error
    append_row(folder / TABLE, {"iteration": iteration} | numbers)
    return numbers


def best_iteration(folder: Path) -> int | None:
    """The first with the best mask AP, or box AP where there are no masks; None where nothing was recorded."""
    path = folder / LINES
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def score(line: dict[str, Any]) -> float:
        return float(line["bbox"]["AP"] if line["segm"]["AP"] < 0 else line["segm"]["AP"])

    return int(max(map(json.loads, lines), key=score)["iteration"]) if lines else None


def forget_scores(folder: Path, iteration: int) -> None:
    """Drop what came after `iteration`, which a resumed run is about to measure again, and lines cut off in writing."""
    forget_rows(folder / TABLE, iteration)
    path = folder / LINES
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["iteration"] <= iteration]
        replace_file(path, "".join(kept).encode())

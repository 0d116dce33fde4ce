"""The record of a run's measurements: scores.jsonl holds all that was found, scores.csv repeats its numbers."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

from condinst.engine.run_folder.log import ITERATION, Table, damaged, read_table, unwritable, write_table
from condinst.engine.run_folder.own_files import SCORE_LINES, SCORE_TABLE
from condinst.errors import CondinstError
from condinst.evaluation.evaluate import Scores
from condinst.files import replace_file
from condinst.strict_json import parse_json

BOX, MASK = "bbox", "segm"  # the parts of a line, as in `Scores`


def record_scores(scores: Scores, folder: Path, iteration: int) -> dict[str, float]:
    """Add to both files; returns the numbers by name. Raises CondinstError if they cannot be written."""
    line = {ITERATION: iteration, **scores.to_dict()}
    try:
        with (folder / SCORE_LINES).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise unwritable(folder / SCORE_LINES, error) from error
    _write_numbers(folder, read_lines(folder))
    return _numbers(line)


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """Each measurement in scores.jsonl, oldest first; none without the file. A line that was cut off is left out.

    Raises CondinstError for a file that does not hold measurements.
    """
    path = folder / SCORE_LINES
    if not path.exists():
        return []
    try:
        *whole, _cut_off = path.read_bytes().decode().split("\n")
        lines = [parse_json(line) for line in whole]
        for line in lines:
            _check(line, lines[0])
        if any(later[ITERATION] <= earlier[ITERATION] for earlier, later in pairwise(lines)):
            raise ValueError("its iterations do not grow from line to line")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(path, error, SCORE_TABLE) from None
    if not lines and _cut_off:
        raise damaged(path, "it holds no measurement", SCORE_TABLE)
    return lines


def _check(line: dict[str, Any], first: dict[str, Any]) -> None:
    """Raise ValueError, LookupError, TypeError or AttributeError if a line is no measurement like the first one."""
    if type(line[ITERATION]) is not int or line[ITERATION] < 1 or _numbers(line).keys() != _numbers(first).keys():
        raise ValueError("its lines have different numbers")
    if not all(math.isfinite(value) for value in (_score(line), *_numbers(line).values())):
        raise ValueError(f"a score of iteration {line[ITERATION]} is not finite")


def recorded_score(folder: Path, iteration: int) -> float | None:
    """The score of the measurement at `iteration`; None if there is none."""
    return next((_score(line) for line in read_lines(folder) if line[ITERATION] == iteration), None)


def best_iteration(folder: Path) -> int | None:
    """The first with the best mask AP, or box AP where there are no masks; None where nothing was recorded."""
    lines = read_lines(folder)
    return int(max(lines, key=_score)[ITERATION]) if lines else None


def forget_scores(folder: Path, iteration: int) -> None:
    """Drop what came after `iteration`, which a resumed run is about to measure again, and lines cut off in writing.

    Raises CondinstError for a damaged file, OSError where the files cannot be written.
    """
    lines, table = folder / SCORE_LINES, folder / SCORE_TABLE
    if not iteration:
        lines.unlink(missing_ok=True)
        table.unlink(missing_ok=True)
        return
    kept = [line for line in read_lines(folder) if line[ITERATION] <= iteration]
    lost = _in_table(table, iteration) - {line[ITERATION] for line in kept}
    if lost:  # a line is written before its row, so no kill explains this
        raise CondinstError(
            f"{lines}: the measurement of iteration {min(lost)} is missing, but {SCORE_TABLE} has it; restore "
            f"{SCORE_LINES}, or move {SCORE_TABLE} away, and --resume writes the file anew"
        )
    if lines.exists():
        replace_file(lines, "".join(json.dumps(line) + "\n" for line in kept).encode())
        _write_numbers(folder, kept)


def _in_table(table: Path, iteration: int) -> set[int]:
    """The iterations below `iteration` in scores.csv, none for a damaged table; `iteration` is measured again."""
    try:
        rows = read_table(table).rows if table.exists() else []
    except CondinstError:
        return set()
    return {int(row[0]) for row in rows if int(row[0]) < iteration}


def _score(line: dict[str, Any]) -> float:
    """Return the number that decides which model is the best."""
    return float(line[BOX]["AP"] if line[MASK]["AP"] < 0 else line[MASK]["AP"])


def _numbers(line: dict[str, Any]) -> dict[str, float]:
    boxes = {f"box_{name}": float(value) for name, value in line[BOX].items()}
    return boxes | {f"mask_{name}": float(value) for name, value in line[MASK].items()}


def _write_numbers(folder: Path, lines: list[dict[str, Any]]) -> None:
    """scores.csv anew, of these measurements; no file for none."""
    path = folder / SCORE_TABLE
    try:
        if not lines:
            path.unlink(missing_ok=True)
            return
        rows = [[f"{line[ITERATION]}", *(f"{value:.6g}" for value in _numbers(line).values())] for line in lines]
        write_table(path, Table([ITERATION, *_numbers(lines[0])], rows))
    except OSError as error:
        raise unwritable(path, error) from error

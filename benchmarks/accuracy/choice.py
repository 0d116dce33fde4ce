"""The table of docs/explanation/tuning-diary.md that compares backbones and assigners."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from statistics import mean

from benchmarks.accuracy.backbones import BACKBONES, METHODS, RESULTS
from benchmarks.facts import Facts, read_facts
from benchmarks.markdown import megabytes, number, table

TITLES = {
    "fcos": "FCOS's assigner",
    "dynamic": "the dynamic assigner on the FCOS head",
    "dynamic-focal": "the dynamic assigner with hard labels (focal loss)",
    "rtmdet": "RTMDet-Ins' head, pyramid and assigner",
}


class Score(Facts):
    """COCO's AP over all thresholds, at 0.50 and at 0.75."""

    AP: float
    AP50: float
    AP75: float


class Scores(Facts):
    """Of boxes and of masks."""

    bbox: Score
    segm: Score


class Run(Facts):
    """One training of benchmarks/accuracy/backbones.py. seconds: CPU time. file_bytes: of the half-precision file."""

    seconds: int
    parameters: int
    file_bytes: int
    scores: Scores


class Choice(Facts):
    """What benchmarks/accuracy/backbones.py writes for a data set and a seed. runs: by BACKBONE-METHOD."""

    data: str
    seed: int
    command: str
    images_seen: int
    runs: dict[str, Run]


def choice_table(results: Path) -> str:
    """Backbone, method, size and scores, means over the seeds, for each data set."""
    found: dict[str, list[Choice]] = defaultdict(list)
    for path in sorted((results / RESULTS).glob("*.json")):
        choice = read_facts(path, Choice)
        found[choice.data].append(choice)
    if not found:
        return "*Not measured yet.*"
    rows = [row for data, choices in found.items() for row in _rows(data, choices)]
    commands = "\n".join(choice.command for choices in found.values() for choice in choices)
    head = ("data", "backbone", "method", "seeds", "file", "box AP", "mask AP", "mask AP50", "mask AP75")
    return f"{table(head, rows, words=3)}\n\n<!-- not run: needs the whole data sets -->\n```sh\n{commands}\n```"


def _rows(data: str, choices: list[Choice]) -> list[tuple[str, ...]]:
    images = choices[0].images_seen
    rows = []
    for backbone, known in BACKBONES.items():
        for method in METHODS:
            runs = [choice.runs[pair] for choice in choices if (pair := f"{backbone}-{method}") in choice.runs]
            if runs:
                numbers = (
                    mean(run.scores.bbox.AP for run in runs),
                    *(mean(getattr(run.scores.segm, part) for run in runs) for part in ("AP", "AP50", "AP75")),
                )
                row = (f"{data}, {images:,} images", known.title, TITLES[method], str(len(runs)))
                rows.append((*row, megabytes(runs[0].file_bytes), *map(number, numbers)))
    return rows

"""The tables and curves of docs/explanation/family.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from benchmarks.accuracy.results import fill
from benchmarks.facts import read_facts
from benchmarks.markdown import number, table
from benchmarks.relatives.ceilings import FILE, Ceilings
from benchmarks.relatives.contest import ABLATIONS, DATA, FAMILY
from benchmarks.relatives.record import Comparison, Point, Run, read_comparisons
from condinst.files import replace_file
from condinst.ops.drawing.chart import Line, Span, plot

WRITER = "benchmarks/family.py"
NOTHING = "*Not measured yet.*"


def write_page(results: Path, root: Path) -> None:
    """Write the tables into the page, and the curves beside the other pictures."""
    found = read_comparisons(results)
    page = root / "docs" / "explanation" / "family.md"
    pictures = root / "docs" / "images" / "family"
    text = fill(page.read_text(encoding="utf-8"), sections(found), page, WRITER)
    pictures.mkdir(parents=True, exist_ok=True)
    for data, svg in charts(found).items():
        replace_file(pictures / f"{data}.svg", svg.encode())
    replace_file(page, text.encode())


def sections(found: Sequence[Comparison]) -> dict[str, str]:
    """The written sections of the page by the names of their markers."""
    by_data = {data: [one for one in found if one.data == data] for data in DATA}
    return {
        "overview": overview(by_data),
        **{data: comparison(of) if of else NOTHING for data, of in by_data.items()},
        "ceilings": ceilings(),
        "ablations": ablations(found),
        "commands": commands(found),
    }


def overview(by_data: dict[str, list[Comparison]]) -> str:
    """The mask AP of each method on each data set, after as many pictures and after as much time."""
    measured = {data: of for data, of in by_data.items() if of}
    if not measured:
        return NOTHING
    rows = []
    for entry, known in FAMILY.items():
        cells = []
        for of in measured.values():
            runs = [one.runs[entry] for one in of if entry in one.runs]
            cells.append(" / ".join(average(runs, part, "mask") for part in ("pictures", "time")) if runs else "–")
        rows.append((known.title, *cells))
    return table(("method", *measured), rows)


def comparison(of: Sequence[Comparison]) -> str:
    """Everything that was measured on one data set, means over the seeds."""
    rows = []
    for entry, known in FAMILY.items():
        runs = [one.runs[entry] for one in of if entry in one.runs]
        if not runs:
            continue
        costs = [one.costs[entry] for one in of if entry in one.costs]
        rows.append(
            (
                known.title,
                *(average(runs, "pictures", part) for part in ("mask", "mask75", "boundary", "box")),
                average(runs, "time", "mask"),
                average(runs, "time", "boundary"),
                f"{mean(run.time.pictures for run in runs):,.0f}",
                f"{runs[0].mask_parameters:,}",
                f"{mean(cost.milliseconds for cost in costs):.0f}" if costs else "–",
                f"{mean(cost.megabytes for cost in costs):.0f}" if costs else "–",
                f"{mean(run.megabytes for run in runs):,.0f}",
            )
        )
    head = (
        *("method", "mask AP", "mask AP75", "boundary AP", "box AP"),
        *("mask AP, same time", "boundary AP, same time", "pictures in this time"),
        *("parameters for masks", "ms for 100 instances", "MB for 100 instances", "MB in training"),
    )
    return table(head, rows)


def ablations(found: Sequence[Comparison]) -> str:
    """The ablations, a table for each, on all data sets that have them."""
    parts = []
    for title, group in ABLATIONS.items():
        having = [one for one in found if set(group) <= set(one.runs)]
        names = list(dict.fromkeys(one.data for one in having))
        if not having:
            continue
        rows = []
        for entry, known in group.items():
            cells = []
            for name in names:
                runs = [one.runs[entry] for one in having if one.data == name]
                cells += [average(runs, "pictures", part) for part in ("mask", "mask75", "boundary")]
            parameters = having[0].runs[entry].mask_parameters
            rows.append((known.title, known.paper or "–", *cells, f"{parameters:,}"))
        head = [f"{name}, {part}" for name in names for part in ("mask AP", "mask AP75", "boundary AP")]
        parts.append(table((title, "paper, COCO, mask AP", *head, "parameters for masks"), rows))
    return "\n\n".join(parts) or NOTHING


def ceilings() -> str:
    """The best that squares inside boxes can reach."""
    if not FILE.exists():
        return NOTHING
    found = read_facts(FILE, Ceilings)
    rows = [(row.data, row.kind, *map(number, (row.mask, row.mask75, row.large, row.boundary))) for row in found.rows]
    head = ("data", "each mask drawn as", "mask AP", "mask AP75", "mask AP, large objects", "boundary AP")
    return f"{table(head, rows, words=2)}\n\n<!-- not run: needs the whole data sets -->\n```sh\n{found.command}\n```"


def commands(found: Sequence[Comparison]) -> str:
    """What was typed, and on which machine."""
    if not found:
        return NOTHING
    lines = "\n".join(dict.fromkeys(one.command for one in found))
    facts = "\n".join(
        f"- {one.data}, seed {one.seed}: {one.pictures:,} pictures, {one.seconds:.0f} s of CPU time, at most "
        f"{one.limit} detections in a picture; {one.machine}"
        for one in found
    )
    return f"{facts}\n\n<!-- not run: needs the whole data sets and hours -->\n```sh\n{lines}\n```"


def charts(found: Sequence[Comparison]) -> dict[str, str]:
    """For each data set, mask AP against the CPU time of training. The first seed alone."""
    drawn: dict[str, str] = {}
    for one in found:
        lines = [
            Line(known.title, [(point.seconds, point.mask) for point in one.runs[entry].points])
            for entry, known in FAMILY.items()
            if entry in one.runs
        ]
        drawn.setdefault(
            one.data,
            plot(f"{one.data}: mask AP and CPU time of training", "seconds", "mask AP", lines, y_span=Span(0, 0.1)),
        )
    return drawn


def average(runs: Sequence[Run], point: str, part: str) -> str:
    """The mean over the seeds of one score."""
    points: list[Point] = [getattr(run, point) for run in runs]
    return number(mean(getattr(one, part) for one in points))

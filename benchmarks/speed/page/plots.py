"""Plots of docs/explanation/speed.md, by file name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.speed.measure import Record, find
from benchmarks.speed.page.tables import INSIDE, curves_of
from condinst.ops.drawing.chart import Bar, Line, bars, curves

PARTS = ("preprocess", "inference", "postprocess")


def plots(records: Mapping[str, Record]) -> dict[str, str]:
    """SVG texts; those whose record is missing are left out."""
    sources: dict[str, tuple[str, Callable[[Record], str]]] = {
        "stages": ("stages-cpu", _stages),
        "rivals": ("rivals-cpu", _rivals),
        "instances": ("scaling-cpu", lambda record: _time(record, "by instances", "instances")),
        "megapixels": ("scaling-cpu", lambda record: _time(record, "by megapixels", "megapixels of the original")),
        "memory": ("scaling-cpu", _memory),
    }
    return {name: draw(records[source]) for name, (source, draw) in sources.items() if source in records}


def _stages(record: Record) -> str:
    return bars(
        "Picture to RLE, 100 instances",
        "ms",
        [row for size in ("640×384", "4000×3000") for row in _split(record, size, f"{size}, ")],
    )


def _rivals(record: Record) -> str:
    return bars("100 instances at 640×640, each by its own prediction call", "ms", _split(record, "640×640", ""))


def _split(record: Record, what: str, prefix: str) -> list[Bar]:
    """A bar of everyone who did `what`, by stage."""
    rows = []
    for whole in record.measurements:
        if whole.what == what:
            parts = {INSIDE[part]: find(record, f"{what}, {part}", whole.who) for part in PARTS}
            lengths = {words: one.median for words, one in parts.items() if one}
            rows.append(Bar(f"{prefix}{whole.who}", lengths or {"in all": whole.median}))
    return rows


def _time(record: Record, axis: str, unit: str) -> str:
    lines = [
        Line(f"{kind}, {who}", [(point.at, point.median) for point in points])
        for kind in ("assembly", "pipeline")
        for who, points in curves_of(record, f"{kind}, {axis}").items()
    ]
    return curves(f"Time {axis}", unit, "ms", lines)


def _memory(record: Record) -> str:
    lines = [
        Line(who, [(point.at, point.median) for point in points])
        for who, points in curves_of(record, "pipeline, by instances, peak memory").items()
    ]
    return curves("Peak memory above the loaded model, original of 12 megapixels", "instances", "MB", lines)

"""The table of exported programs in docs/explanation/speed.md."""

from __future__ import annotations

from benchmarks.markdown import table
from benchmarks.speed.measure import KEPT, Record, find
from benchmarks.speed.page.tables import NOTHING, Records, number, ratio_of

NAME = "exported-cpu"
WHATS = ("640×640", "800×1333")


def exported(records: Records) -> str:
    """Time of everyone by part, and the ratio to each program that is not condinst's, with both allocators."""
    record, kept = records.get(NAME), records.get(NAME + KEPT)
    if record is None:
        return NOTHING
    parts = []
    for what in WHATS:
        parts += [f"{what}: {record.settings[what]}.", times_by_part(record, kept, what)]
    return "\n\n".join(parts)


def times_by_part(record: Record, kept: Record | None, what: str) -> str:
    """Everyone's time by part, with the ratio to each program that is not condinst's, and the time with pages kept."""
    names = list(dict.fromkeys(one.who for one in record.measurements if one.what == what))
    rivals = [who for who in names if who.startswith("YOLO") or who == "reference"]
    rows = []
    for who in names:
        here = [find(record, what, who)]
        here += [find(record, f"{what}, {part}", who) for part in ("preprocess", "inference", "postprocess")]
        ratios = ["" if who in rivals else ratio_of(record, what, who, rival) for rival in rivals]
        again = "" if kept is None else number(find(kept, what, who))
        rows.append((who, *(number(one) for one in here), *ratios, again))
    head = ("", "ms", "preprocess", "network", "postprocess", *(f"÷ {rival}" for rival in rivals), "ms, pages kept")
    return table(head, rows)

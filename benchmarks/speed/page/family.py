"""The table of RTMDet-Ins in docs/explanation/speed.md."""

from __future__ import annotations

from benchmarks.markdown import table
from benchmarks.speed.measure import KEPT, find
from benchmarks.speed.page.tables import NOTHING, Records, number, ratio_of

NAME = "family-cpu"


def family(records: Records) -> str:
    """Time of everyone by part, and the ratio to each YOLO, for each size."""
    record, kept = records.get(NAME), records.get(NAME + KEPT)
    if record is None:
        return NOTHING
    parts = [f"{record.settings['input']}."]
    for what in dict.fromkeys(one.what for one in record.measurements if "," not in one.what):
        names = dict.fromkeys(one.who for one in record.measurements if one.what == what)
        rivals = [who for who in names if who.startswith("YOLO")]
        rows = []
        for who in names:
            here = [find(record, what, who)]
            here += [find(record, f"{what}, {part}", who) for part in ("preprocess", "inference", "postprocess")]
            ratios = ["" if who in rivals else ratio_of(record, what, who, rival) for rival in rivals]
            again = "" if kept is None else number(find(kept, what, who))
            rows.append((who, *(number(one) for one in here), *ratios, again))
        head = ("", "ms", "preprocess", "network", "postprocess", *(f"÷ {rival}" for rival in rivals), "ms, pages kept")
        parts += [f"{what}:", table(head, rows)]
    return "\n\n".join(parts)

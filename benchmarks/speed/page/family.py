"""The tables of RTMDet-Ins in docs/explanation/speed.md."""

from __future__ import annotations

from benchmarks.speed.measure import KEPT
from benchmarks.speed.page.exported import times_by_part
from benchmarks.speed.page.tables import NOTHING, Records

NAME = "family-cpu"


def family(records: Records) -> str:
    """Time of everyone by part, and the ratio to each YOLO, for each size."""
    record, kept = records.get(NAME), records.get(NAME + KEPT)
    if record is None:
        return NOTHING
    parts = [f"{record.settings['input']}."]
    for what in dict.fromkeys(one.what for one in record.measurements if "," not in one.what):
        parts += [f"{what}:", times_by_part(record, kept, what)]
    return "\n\n".join(parts)

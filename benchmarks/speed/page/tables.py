"""Tables of docs/explanation/speed.md. Every figure comes from a record; where there is none the table says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.markdown import table
from benchmarks.speed.floors import FLOOR
from benchmarks.speed.measure import COMPILED, EXACT, FAST, REFERENCE, Measurement, Record, find
from condinst.ops.drawing.chart import plain

Records = Mapping[str, Record]
NOTHING = "*Not measured yet.*"
MODES = (EXACT, FAST, COMPILED)
FIRST = (("640×640", "condinst, shipped nuclei model, {}"), ("800×1333", "condinst, ResNet-50-FPN, {}"))
ORIGINALS = ("640×384", "4000×3000")
# as the benchmarks name them, and in words
INSIDE = {
    "preprocess": "resize and normalise",
    "backbone and FPN": "backbone and FPN",
    "FCOS head": "FCOS head",
    "mask branch": "mask branch",
    "inference": "network and detection",
    "postprocess": "masks and RLE",
}
ALONE = (
    "detect",
    "mask head",
    "mask head, enlarged",
    *(f"{stage}, {size}" for size in ORIGINALS for stage in ("assembly and RLE", "masks in all")),
)


def stages(records: Records) -> str:
    """End to end for both originals, the parts of it, and the stages alone."""
    record = records.get("stages-cpu")
    return NOTHING if record is None else _stages(record)


def _stages(record: Record) -> str:
    parts = []
    for size in ORIGINALS:
        rows = [_compared(record, size, "**end to end**", MODES)]
        rows += [_compared(record, f"{size}, {stage}", words, MODES) for stage, words in INSIDE.items()]
        parts.append(f"Original of {size}, milliseconds, and the ratio to the reference:")
        parts.append(table(("", REFERENCE, *MODES, *FLOOR.values()), rows))
    rows = [_compared(record, stage, stage, (EXACT,)) for stage in ALONE]
    parts += ["Stages alone, on the same inputs:", table(("", REFERENCE, "ours", *FLOOR.values()), rows)]
    parts.append("; ".join(f"{name}: {words}" for name, words in record.settings.items()) + ".")
    return "\n\n".join(parts)


def _compared(record: Record, what: str, words: str, who: Sequence[str]) -> tuple[str, ...]:
    """A row: the reference, each of the others with its ratio, and the hardware's floors."""
    base = find(record, what, REFERENCE)
    cells = [number(base)]
    for name in who:
        one = find(record, what, name)
        ratio = f" ({one.median / base.median:.2f})" if one and base else ""
        cells.append(number(one) + ratio)
    return words, *cells, *(number(find(record, what, name)) for name in FLOOR.values())


def number(one: Measurement | None) -> str:
    """Three significant digits; a dash where nothing was measured."""
    if one is None:
        return "–"
    value = one.median
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def scaling(records: Records) -> str:
    """The curves and how straight they are."""
    record = records.get("scaling-cpu")
    if record is None:
        return NOTHING
    rows = []
    for axis, unit in (("by instances", "instance"), ("by megapixels", "megapixel")):
        for kind in ("assembly", "pipeline"):
            for what in (f"{kind}, {axis}", f"{kind}, {axis}, peak memory"):
                rows += [_fit_row(what, unit, line) for line in curves_of(record, what).items()]
    head = ("", "who", "from", "to", "fixed part", "each further one", "R²")
    pictures = "\n\n".join(f"![{words}](../images/speed/{name}.svg)" for name, words in PICTURES.items())
    said = "; ".join(f"{name}: {words}" for name, words in record.settings.items())
    return f"{table(head, rows, words=2)}\n\n{said}.\n\n{pictures}"


PICTURES = {
    "instances": "Time over the number of instances",
    "megapixels": "Time over the size of the original",
    "memory": "Peak memory over the number of instances",
}


def curves_of(record: Record, what: str) -> dict[str, list[Measurement]]:
    """The measurements of that name by who made them, along the axis."""
    names = dict.fromkeys(one.who for one in record.measurements if one.what == what)
    return {
        who: sorted((one for one in record.measurements if (one.what, one.who) == (what, who)), key=lambda one: one.at)
        for who in names
    }


class Fit(NamedTuple):
    """y = fixed + each · x by least squares. straight: R²."""

    fixed: float
    each: float
    straight: float


def fit(line: Sequence[Measurement]) -> Fit:
    """Of the medians; R² is 1 for a horizontal line."""
    x, y = np.array([one.at for one in line]), np.array([one.median for one in line])
    each, fixed = np.polyfit(x, y, 1)
    spread = ((y - y.mean()) ** 2).sum()
    rest = ((y - fixed - each * x) ** 2).sum()
    return Fit(float(fixed), float(each), float(1 - rest / spread) if spread else 1.0)


def _fit_row(what: str, unit: str, line: tuple[str, list[Measurement]]) -> tuple[str, ...]:
    who, points = line
    ends = [f"{point.at:g}: {number(point)} {point.unit}" for point in (points[0], points[-1])]
    fixed, each, straight = fit(points)
    return what, who, *ends, plain(fixed), f"{plain(each)} {points[0].unit} per {unit}", f"{straight:.3f}"


def memory(records: Records) -> str:
    """Everyone's peak, and how much it differs between processes."""
    rows = []
    for name in ("stages-cpu", "rivals-cpu", "training_step-cpu"):
        for one in records[name].measurements if name in records else ():
            if one.unit == "MB":
                spread = f"{min(one.values):,.0f}–{max(one.values):,.0f}"
                rows.append((one.what.removesuffix(", peak memory"), one.who, number(one), spread))
    return table(("", "who", "MB", "from – to"), rows, words=2) if rows else NOTHING


def training(records: Records) -> str:
    """A step and its parts."""
    record = records.get("training_step-cpu")
    if record is None:
        return NOTHING
    names = tuple(dict.fromkeys(one.who for one in record.measurements if one.who != REFERENCE))
    rows = []
    for what in dict.fromkeys(one.what for one in record.measurements):
        unit = "MB" if what.endswith("memory") else "ms"
        rows.append(_compared(record, what, f"{what}, {unit}", names)[: len(names) + 2])  # no floors of a step
    said = "; ".join(f"{name}: {words}" for name, words in record.settings.items())
    return f"{table(('', REFERENCE, *names), rows)}\n\n{said}."


def first(records: Records) -> str:
    """What a picture takes on the machine that measured, beside other programs: the first table of the page."""
    record = records.get("rivals-cpu")
    if record is None:
        return NOTHING
    rows = []
    for what, model in FIRST:
        for who in dict.fromkeys(one.who for one in record.measurements if one.what == what):
            name = model.format(who) if who in MODES else who
            memory = find(record, f"{what}, peak memory", who)
            rows.append((name, what, number(find(record, what, who)), number(memory)))
    head = ("program", "size of the input", "milliseconds", "memory above the model, MB")
    return f"On {record.machine.cpu}, {record.machine.threads} threads:\n\n{table(head, rows, words=2)}"


def rivals(records: Records) -> str:
    """Everyone's time by part and peak memory, with the ratio of our modes to each rival."""
    record = records.get("rivals-cpu")
    if record is None:
        return NOTHING
    parts = []
    for what in ("800×1333", "640×640"):
        names = dict.fromkeys(one.who for one in record.measurements if one.what == what)
        rows = [_rival_row(record, what, who) for who in names]
        head = (
            "",
            "ms",
            "preprocess",
            "network",
            "postprocess",
            "peak memory, MB",
            *(f"{mode} ÷ it" for mode in MODES),
        )
        parts += [f"{what}: {record.settings[what]}.", table(head, rows)]
    return "\n\n".join(
        [*parts, f"{record.settings['candidates'].capitalize()}.", "![Rivals](../images/speed/rivals.svg)"]
    )


def _rival_row(record: Record, what: str, who: str) -> tuple[str, ...]:
    one = find(record, what, who)
    parts = [find(record, f"{what}, {part}", who) for part in ("preprocess", "inference", "postprocess", "peak memory")]
    ratios = [_ratio(find(record, what, mode), one) for mode in MODES] if who not in MODES else ["", "", ""]
    return who, number(one), *(number(part) for part in parts), *ratios


def _ratio(one: Measurement | None, other: Measurement | None) -> str:
    return f"{one.median / other.median:.2f}" if one and other else "–"


def ratio_of(record: Record, what: str, who: str, rival: str) -> str:
    """The time of `who` over that of `rival`."""
    return _ratio(find(record, what, who), find(record, what, rival))


def startup(records: Records) -> str:
    """Cold processes."""
    record = records.get("startup-cpu")
    if record is None:
        return NOTHING
    rows = [(f"`{one.who}`" if " " in one.who else one.who, number(one)) for one in record.measurements]
    said = "; ".join(f"{name}: {words}" for name, words in record.settings.items())
    return f"{table(('', 'ms'), rows)}\n\n{said}."


def gpu(records: Records) -> str:
    """The stages against the reference and against what the card would need at least."""
    record = records.get("stages-cuda")
    if record is None:
        return "*No graphics card was at hand.*"
    whats = dict.fromkeys(one.what for one in record.measurements if one.unit == "ms")
    rows = [_compared(record, what, what, MODES) for what in whats]
    return f"{record.machine.device}, milliseconds.\n\n{table(('', REFERENCE, *MODES, *FLOOR.values()), rows)}"


def machine(records: Records) -> str:
    """Where and how."""
    if not records:
        return NOTHING
    parts = []
    for name, record in records.items():
        here = record.machine
        versions = ", ".join(f"{package} {version}" for package, version in here.versions.items())
        kept = [f"{key}={value}" for key, value in here.allocator.items() if value != "default"]
        allocator = ", ".join(kept) or "glibc's default allocator"
        parts.append(
            f"- `{record.command}` (`benchmarks/results/{name}.json`): {here.cpu}, {here.cores} cores, {here.threads} "
            f"threads, {here.memory_gb:g} GB, {here.device}; {here.system}; {versions}; {allocator}"
        )
    return "\n".join(parts)

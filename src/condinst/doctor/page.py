"""Writes the findings as an HTML page: totals, histograms, pictures of the worst findings, and the list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from condinst.config import Config
from condinst.data.findings import Finding
from condinst.data.sample import Instance, Sample
from condinst.data.transforms import input_shape
from condinst.doctor.checks.claims import NOWHERE
from condinst.doctor.examination import Examination
from condinst.doctor.page_pictures import show_object, show_picture
from condinst.doctor.summary import by_kind, shorten, summarise
from condinst.ops.drawing.page import Html, bars, cards, marked, page, picture, pictures, section, table
from condinst.settings.prediction import InputConfig

MOST_PICTURES = 36  # on the page
OF_A_KIND = 6  # pictures per kind of finding
MOST_LISTED = 500  # findings in the list
MOST_CLASSES = 60  # in the histogram
Key = tuple[Path, int | str | None]  # a file, and an id in it

SIZES = (4, 8, 16, 32, 64, 128, 256, 512)  # pixels; where the bars of the sizes begin and end


def make_page(examination: Examination, config: Config, data: Path) -> str:
    """Return a self-contained HTML document about the data set at `data`, examined with `config`."""
    summary = summarise(examination)
    verdict = (
        marked("info", "Ready to train.")
        if examination.healthy
        else marked("error", "Not ready: training would fail or learn wrong objects.")
    )
    counted = [
        (str(summary["pictures"]), "pictures", ""),
        (str(summary["instances"]), "annotated objects", f"of {len(summary['classes'])} classes"),
        (str(summary["errors"]), "errors", "training would fail or learn wrong objects"),
        (str(summary["warnings"]), "warnings", "training works, but check them"),
        (str(summary["infos"]), "remarks", "good to know"),
    ]
    parts = [
        Html(f"<p>{verdict}</p>"),
        cards(counted),
        section("Findings", [_kinds(examination)] if examination.findings else ["None."]),
        *_worst(examination, data),
        section("Splits", [_splits(examination, summary["splits"])]),
        _sizes(examination, config),
        *_classes(examination, summary["splits"]),
        *_list(examination, data),
    ]
    return page(f"Data check: {data.name or data}", parts)


def _splits(examination: Examination, splits: dict[str, dict[str, object]]) -> Html:
    rows = [
        (name, part["pictures"], part["instances"], len(examination.splits[name].classes))
        for name, part in splits.items()
    ]
    return table(("split", "pictures", "objects", "classes"), rows, numbers_from=1)


def _kinds(examination: Examination) -> Html:
    rows = [
        (marked(group[0].severity, group[0].severity), group[0].kind, len(group), group[0].remedy)
        for group in by_kind(examination.findings)
    ]
    return table(("severity", "kind", "count", "remedy for the first"), rows)


def _sizes(examination: Examination, config: Config) -> Html:
    """Return the sizes of the objects at the input size, and the pyramid level that learns each object if known."""
    found = Counter(_bin(size) for size in _longer_sides(examination, config))
    edges = [
        f"under {SIZES[0]}",
        *(f"{a}–{b}" for a, b in pairwise(SIZES)),
        f"{SIZES[-1]} and more",
    ]
    parts: list[Html | str] = [
        f"Input size: {_input(config.input)}.",
        section("Longer side of the box, in pixels", [bars([(e, found[i]) for i, e in enumerate(edges)])], 3),
    ]
    if config.size_decides_level:
        parts.append(_levels(examination, config))
    return section("Object sizes", parts)


def _input(size: InputConfig) -> str:
    if size.stretch:
        return f"every picture becomes {size.longer}×{size.longer} pixels"
    return f"the shorter side has {size.shorter} pixels, the longer side at most {size.longer}"


def _levels(examination: Examination, config: Config) -> Html:
    levels = [
        (f"P{level + 3}, stride {stride}: {_range(config.model.size_ranges[level])}", examination.levels.get(level, 0))
        for level, stride in enumerate(config.model.geometry.strides)
    ]
    levels.append(("no location", examination.levels.get(NOWHERE, 0)))
    return section("Pyramid level that learns the objects, by the largest distance to a side", [bars(levels)], 3)


def _bin(size: float) -> int:
    return sum(size >= edge for edge in SIZES)


def _range(sizes: tuple[float, float]) -> str:
    low, high = sizes
    return f"over {low:g}" if high == float("inf") else f"{max(low, 0):g}–{high:g}"


def _longer_sides(examination: Examination, config: Config) -> Iterator[float]:
    for data in examination.splits.values():
        for sample in data.samples:
            _, width = input_shape(sample.height, sample.width, config.input)
            for instance in sample.instances:
                x0, y0, x1, y1 = instance.box
                if not instance.crowd:
                    yield max(x1 - x0, y1 - y0) * width / sample.width


def _classes(examination: Examination, splits: dict[str, dict[str, object]]) -> Iterator[Html]:
    for name, part in splits.items():
        counts = part["classes"]
        assert isinstance(counts, dict)
        rows = sorted(counts.items(), key=lambda it: -it[1])
        more = [f"… and {len(rows) - MOST_CLASSES} more classes"] if len(rows) > MOST_CLASSES else []
        if len(rows) > 1:
            yield section(f"Objects of each class in {name}", [bars(rows[:MOST_CLASSES]), *more])


def _worst(examination: Examination, data: Path) -> Iterator[Html]:
    """Return pictures of each kind of finding, errors first."""
    left = MOST_PICTURES
    finder = _Finder(examination)
    for group in by_kind(examination.findings):
        shown: list[Html] = []
        for finding in group:
            if len(shown) < min(OF_A_KIND, left):
                shown += finder.show(finding, f"{shorten(finding.file, data)}: {finding.message}")
        left -= len(shown)
        if shown:
            head = f"{group[0].kind} ({len(group)})"
            yield section(head, [marked(group[0].severity, group[0].severity), pictures(shown)])


def _list(examination: Examination, data: Path) -> Iterator[Html]:
    findings = examination.findings
    if not findings:
        return
    rows = [
        (marked(it.severity, it.severity), it.kind, shorten(it.file, data), it.message, it.remedy)
        for it in findings[:MOST_LISTED]
    ]
    parts: list[Html | str] = [table(("severity", "kind", "file", "what", "what to do"), rows)]
    if len(findings) > MOST_LISTED:
        parts.append(f"… and {len(findings) - MOST_LISTED} more; condinst data check --json lists all.")
    yield section("All findings", parts)


class _Finder:
    """Finds the samples and objects of findings."""

    def __init__(self, examination: Examination) -> None:
        self.twins = {id(it.finding): it for it in examination.twins}
        self.samples: dict[Key, Sample] = {}
        self.objects: dict[Key, tuple[Sample, Instance]] = {}
        wanted = {(it.file, it.id) for it in examination.findings}
        for data in examination.splits.values():
            for sample in data.samples:
                # readers name the annotation file, and checks of a picture name the picture
                self.samples |= {(file, sample.image_id): sample for file in (sample.path, data.source)}
                for instance in sample.instances:
                    key = sample.path, instance.annotation_id
                    if key in wanted:
                        self.objects[key] = sample, instance

    def show(self, finding: Finding, caption: str) -> list[Html]:
        """Return the picture of a finding, or two pictures of the same scene; nothing if no picture can be shown."""
        twins, key = self.twins.get(id(finding)), (finding.file, finding.id)
        if twins is not None:
            both = [(show_picture(it), it.path.name) for it in (twins.first, twins.second)]
            return [picture(made, name, caption if index else name) for index, (made, name) in enumerate(both) if made]
        made = None
        if finding.message.startswith(f"annotation {finding.id} at "):
            if key in self.objects:
                made = show_object(*self.objects[key], box=finding.kind in {"box-mismatch", "outside"})
        elif key in self.samples and not finding.message.startswith(("annotation", "categor", "class")):
            made = show_picture(self.samples[key])  # ids of annotations and classes belong to no picture
        return [picture(made, finding.kind, caption)] if made else []

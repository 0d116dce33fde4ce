"""Examines a data set: decodes each picture once with its objects, then checks the data set as a whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from condinst.config import Config
from condinst.data.findings import Finding, Severity
from condinst.data.formats.splits import SPLITS
from condinst.data.pictures.image import read_image
from condinst.data.sample import AnnotatedData, Sample
from condinst.doctor.checks.classes import check_set
from condinst.doctor.checks.copies import Copy, Fingerprint, copies_between, copies_within, sure_copy
from condinst.doctor.look import Look, look_at_all
from condinst.settings.kinds import Range

Progress = Callable[[int, int], None]  # (done, of how many)
ORDER = ("error", "warning", "info")


class Twins(NamedTuple):
    """Two pictures of the same scene, each with its split.

    finding: about the second picture. sure: the second picture is certainly a copy.
    """

    finding: Finding
    first: Sample
    second: Sample
    splits: tuple[str, str]
    sure: bool


@dataclass(frozen=True)
class Examination:
    """The findings, errors first. read_findings: those of the reader of each split; `findings` holds them, too.

    levels: objects by the pyramid level that claims them, −1 for none. Empty for the dynamic assigner.
    """

    findings: tuple[Finding, ...]
    splits: Mapping[str, AnnotatedData]
    read_findings: Mapping[str, tuple[Finding, ...]]
    levels: Mapping[int, int]
    twins: tuple[Twins, ...]

    @property
    def healthy(self) -> bool:
        """Return whether training can use the data: no finding is an error."""
        return all(finding.severity != "error" for finding in self.findings)


@dataclass
class _Notes:
    """The data collected while the pictures are read."""

    findings: list[Finding] = field(default_factory=list)
    levels: Counter[int] = field(default_factory=Counter)
    prints: dict[str, list[tuple[Sample, Fingerprint]]] = field(default_factory=dict)


def examine(
    splits: Mapping[str, AnnotatedData],
    read_findings: Mapping[str, tuple[Finding, ...]],
    config: Config,
    progress: Progress | None = None,
    processes: int = 1,
) -> Examination:
    """Check every picture and object of the splits.

    The splits were read before. read_findings: those of the readers. Keeps one picture for each of `processes` in
    memory, and a kilobyte of each earlier picture. Findings are sorted, errors first.
    """
    notes = _Notes([finding for found in read_findings.values() for finding in found])
    turned = {(finding.file, finding.id) for finding in notes.findings if finding.kind == "exif-rotated"}
    total, done = sum(len(data.samples) for data in splits.values()), 0
    for name, data in splits.items():
        prints = notes.prints.setdefault(name, [])
        unlike = 0
        for sample, look in zip(data.samples, look_at_all(data.samples, config, processes), strict=True):
            known = not turned.isdisjoint(((data.source, sample.image_id), (sample.path, None)))
            notes.findings += _new_findings(look, known)
            notes.levels.update(look.levels)
            if look.print is not None:
                prints.append((sample, look.print))
            unlike += look.other_area
            done += 1
            if progress is not None:
                progress(done, total)
        notes.findings += _areas(data, unlike)
    if splits:
        notes.findings += check_set(splits, config.detect.max_detections)
    twins = tuple(_find_twins(notes.prints, config.input.range))
    notes.findings += [pair.finding for pair in twins]
    if any(finding.kind == "interpolated-labels" for finding in notes.findings):
        # the edge of an object is no object, so its size would mislead
        notes.findings = [finding for finding in notes.findings if finding.kind not in ("no-location", "too-small")]
    order = {severity: place for place, severity in enumerate(ORDER)}
    findings = sorted(notes.findings, key=lambda finding: order[finding.severity])
    return Examination(tuple(findings), splits, read_findings, notes.levels, twins)


def _new_findings(look: Look, turned: bool) -> Iterator[Finding]:
    """Return the findings about a picture. turned: the reader reported the EXIF orientation already."""
    return (finding for finding in look.findings if not (turned and finding.kind == "exif-rotated"))


def _areas(data: AnnotatedData, unlike: int) -> Iterator[Finding]:
    if unlike:
        message = f"the stated area of {unlike} objects differs from their mask"
        remedy = "scores by object size use the stated area; state the area of the mask"
        yield Finding("area-mismatch", "info", data.source, None, message, remedy)


def _find_twins(prints: Mapping[str, list[tuple[Sample, Fingerprint]]], range: Range) -> Iterator[Twins]:
    """Find copies across two splits, then copies within each split."""
    for (name, ours), (other, theirs) in combinations(prints.items(), 2):
        for copy in copies_between([it for _, it in ours], [it for _, it in theirs]):
            first, second = ours[copy.first][0], theirs[copy.second][0]
            sure = copy.exact or sure_copy(*(read_image(it.path, range=range) for it in (first, second)))
            sure = sure and name in SPLITS and other in SPLITS  # other subsets are never measured on
            finding = _both_splits(copy, sure, first, second, (name, other))
            yield Twins(finding, first, second, (name, other), sure)
    for name, own in prints.items():
        for copy in copies_within([it for _, it in own]):
            first, second = own[copy.first][0], own[copy.second][0]
            yield Twins(_repeated(copy, first, second), first, second, (name, name), copy.exact)


def _both_splits(copy: Copy, sure: bool, first: Sample, second: Sample, names: tuple[str, str]) -> Finding:
    what = "the same pixels as" if copy.exact else "a rotated or recompressed copy of" if sure else "much like"
    message = f"in {names[1]}, {'is' if sure and not copy.exact else 'shows'} {what} {_short(first.path, second.path)}"
    if sure:
        remedy = "scores on it mean nothing; remove it from one of the splits"
    else:
        remedy = "check whether it is a copy; if so, keep both pictures in one split"
    severity: Severity = "error" if sure else "warning"
    return Finding("both-splits", severity, second.path, second.image_id, f"{message} in {names[0]}", remedy)


def _repeated(copy: Copy, first: Sample, second: Sample) -> Finding:
    if first.path == second.path:
        message = f"is listed twice, with ids {first.image_id} and {second.image_id}"
        remedy = "list it once, with all objects: the objects of one record are background in the other"
        return Finding("listed-twice", "warning", second.path, second.image_id, message, remedy)
    message = f"shows {'the same pixels as' if copy.exact else 'much like'} {_short(first.path, second.path)}"
    remedy = "remove it, unless it is an intended copy; the picture counts twice"
    return Finding("duplicate-picture", "info", second.path, second.image_id, message, remedy)


def _short(path: Path, beside: Path) -> str:
    """Return the name alone if the name is enough."""
    return path.name if path.parent == beside.parent else str(path)

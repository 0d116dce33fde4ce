"""Writes a copy of an examined data set, with all repairs that need no guessing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from condinst.data.sample import AnnotatedData
from condinst.doctor.examination import Examination
from condinst.doctor.repair import Change, done_by_reader, repair_set, unite_classes
from condinst.doctor.write_copy import write_copy
from condinst.errors import DataError


def treat(examination: Examination, source: Path, out: Path) -> list[Change]:
    """Write the repaired data set to `out`, a new or empty folder, as COCO JSON with pictures; returns every change.

    Raises UsageError for a folder that is not empty, DataError if nothing would be left to train on, CondinstError if
    `out` cannot be written.
    """
    changes: list[Change] = []
    splits: dict[str, AnnotatedData] = {}
    for name, data in examination.splits.items():
        changes += done_by_reader(examination.read_findings.get(name, ()), data)
        splits[name] = repair_set(data, examination.findings, changes.append)
    _refuse_nothing(splits, source)
    splits = _separate(unite_classes(splits, changes.append), examination, changes)
    _refuse_nothing(splits, source)
    return write_copy(splits, changes, source, out)


def _refuse_nothing(splits: Mapping[str, AnnotatedData], source: Path) -> None:
    first = next(iter(splits.values()), None)
    if first is None or all(it.crowd for sample in first.samples for it in sample.instances):
        raise DataError(f"{source}: nothing would be left to train on; see the findings and correct them by hand")


def _separate(
    splits: Mapping[str, AnnotatedData], examination: Examination, changes: list[Change]
) -> dict[str, AnnotatedData]:
    """Drop the pictures with a sure copy in a later split: the pictures used to measure stay unchanged."""
    separate = dict(splits)
    for twins in examination.twins:
        earlier, later = twins.splits
        if earlier == later or not twins.sure:
            continue
        kept = tuple(it for it in separate[earlier].samples if it.path != twins.first.path)
        if len(kept) < len(separate[earlier].samples):
            what = f"left out of {earlier}: {twins.second.path.name} in {later} shows the same scene"
            changes.append(Change("both-splits", twins.first.path, twins.first.image_id, what))
            separate[earlier] = replace(separate[earlier], samples=kept)
    return separate

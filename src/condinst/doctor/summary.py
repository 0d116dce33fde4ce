"""The numbers of an examination, as JSON and grouped for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from condinst.data.findings import Finding
from condinst.doctor.checks.claims import NOWHERE
from condinst.doctor.checks.classes import count_classes
from condinst.doctor.examination import Examination


def by_kind(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Group findings of one kind and severity, in the order of the first finding of each group."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.severity, finding.kind), []).append(finding)
    return list(groups.values())


def summarise(examination: Examination) -> dict[str, Any]:
    """Return the totals as JSON. Objects are counted without crowds."""
    splits: dict[str, Any] = {
        name: {
            "pictures": len(data.samples),
            "instances": sum(count_classes(data).values()),
            "classes": count_classes(data),
        }
        for name, data in examination.splits.items()
    }
    severities = Counter(finding.severity for finding in examination.findings)
    levels = {f"P{level + 3}": examination.levels[level] for level in range(5) if examination.levels.get(level)}
    nowhere = examination.levels.get(NOWHERE, 0)
    totals: Counter[str] = Counter()
    for part in splits.values():
        totals.update(part["classes"])
    return {
        "pictures": sum(part["pictures"] for part in splits.values()),
        "instances": sum(part["instances"] for part in splits.values()),
        "classes": dict(totals),
        "splits": splits,
        "levels": levels | ({"none": nowhere} if nowhere else {}),
        "errors": severities["error"],
        "warnings": severities["warning"],
        "infos": severities["info"],
    }


def to_dict(examination: Examination, data: Path) -> dict[str, Any]:
    """Return the examination as JSON. Files inside the data set get relative paths."""
    findings = [{**asdict(finding), "file": shorten(finding.file, data)} for finding in examination.findings]
    return {"findings": findings, **summarise(examination)}


def shorten(file: Path, data: Path) -> str:
    """Return `file` relative to the data set's folder, if the file is inside."""
    root = data if data.is_dir() else data.parent
    if file == data or not file.is_relative_to(root):
        return file.name if file == data and file.is_file() else str(file)
    return file.relative_to(root).as_posix()

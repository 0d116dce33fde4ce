"""What an examination found, in numbers, as JSON and grouped for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from condinst.data.findings import Finding
from condinst.doctor.classes import count_classes
from condinst.doctor.examination import Examination
from condinst.doctor.reach import NOWHERE


def by_kind(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Findings of one kind and severity together, in the order of the first of each."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.severity, finding.kind), []).append(finding)
    return list(groups.values())


def summarise(examination: Examination) -> dict[str, Any]:
    """The totals, as JSON. Objects are counted without crowds."""
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
    """All of it as JSON; files are named from the data set on where they lie in it."""
    findings = [{**asdict(finding), "file": shorten(finding.file, data)} for finding in examination.findings]
    return {"findings": findings, **summarise(examination)}


def shorten(file: Path, data: Path) -> str:
    """`file` from the data set's folder on, where it lies in it."""
    root = data if data.is_dir() else data.parent
    if file == data or not file.is_relative_to(root):
        return file.name if file == data and file.is_file() else str(file)
    return file.relative_to(root).as_posix()

"""A parsed COCO file: its lists of records, and the report of its problems."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from condinst.data.findings import Finding, RecordError, Report, Severity
from condinst.data.formats.records import CORRECT, Record, kind, load_json


class File(NamedTuple):
    """An open COCO file and its report.

    note_counts: what the reader left out or replaced, as sentences for the notes, and how often. {} in a sentence
    stands for the number.
    """

    path: Path
    images: Path
    max_pixels: int
    report: Report
    note_counts: Counter[str]

    def tell(self, words: str, finding: Finding) -> None:
        """Report what the reader leaves out or replaces, and count it under `words`."""
        self.note_counts[words] += 1
        self.report(finding)

    def notes(self) -> tuple[str, ...]:
        """Return one note for each entry of `note_counts`."""
        return tuple(
            f"{self.path}: {words.replace('{}', str(count), 1)}" for words, count in self.note_counts.items() if count
        )

    def finding(self, kind: str, severity: Severity, id: int | None, message: str, remedy: str) -> Finding:
        """Return a finding about the record `id` of this file."""
        return Finding(kind, severity, self.path, id, message, remedy)


def load_document(path: Path) -> Record:
    """Return the JSON object of the file. Raises RecordError if the file holds no object."""
    document = load_json(path, "give a COCO JSON file")
    if not isinstance(document, dict):
        message = f"expected an object of images, annotations and categories, got {kind(document)}"
        raise RecordError("bad-file", message, "give a COCO JSON file")
    return document


def list_records(document: Record, key: str) -> list[Any]:
    """Return the list `key`. Raises RecordError if there is no such list."""
    if key not in document:
        raise RecordError("bad-file", f"no '{key}'", "a COCO instance file has images, annotations and categories")
    records = document[key]
    if not isinstance(records, list):
        raise RecordError("bad-file", f"'{key}' must be a list, got {kind(records)}", "write the file again")
    return records


def as_object(record: Any) -> Record:
    """Return the record. Raises RecordError if the record is no object."""
    if not isinstance(record, dict):
        raise RecordError("bad-record", f"must be an object, got {kind(record)}", CORRECT)
    return record


def repeated_id(value: int) -> RecordError:
    """Return the error for an id that two records use."""
    return RecordError("duplicate-id", f"id {value} is used twice", "make ids unique")

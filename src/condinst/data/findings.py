"""Findings about a data set. The readers and `condinst data check` use the same messages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from condinst.errors import DataError, one_line

LONGEST = 1000  # characters of a message
Severity = Literal["error", "warning", "info"]  # error: training on the data would fail or give wrong results


@dataclass(frozen=True)
class Finding:
    """One problem in a data set.

    kind: one word, or two words with a hyphen, the same for all findings of a sort. id: of the record, if there is one.
    The user sees file, message and remedy as one line.
    """

    kind: str
    severity: Severity
    file: Path
    id: int | str | None
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}: {self.message}; {self.remedy}"


class RecordError(Exception):
    """A problem with a record. The caller knows the file and the record, and makes a Finding of the error."""

    def __init__(self, kind: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.kind, self.message, self.remedy = kind, message, remedy

    def at(self, file: Path, id: int | str | None, where: str = "") -> Finding:
        """Return the error of the record `id` of `file`. `where` is the start of the message."""
        message = one_line(f"{where}: {self.message}" if where else self.message)
        return Finding(self.kind, "error", file, id, message[:LONGEST], one_line(self.remedy)[:LONGEST])


# A reader calls a report for each finding. If the report returns, the reader leaves the record out.
Report = Callable[[Finding], None]


def refuse(finding: Finding) -> None:
    """The default report of readers: an error stops the reading. Raises DataError."""
    if finding.severity == "error":
        raise DataError(str(finding))

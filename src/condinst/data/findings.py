"""What is wrong with a data set: the same words whether a reader refuses it or the doctor lists it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from condinst.errors import DataError, one_line

LONGEST = 1000  # characters of a message
Severity = Literal["error", "warning", "info"]  # error: training on it would fail or be wrong


@dataclass(frozen=True)
class Finding:
    """One thing found. kind: one word or two with a hyphen, the same for all of its sort. id: of the record, if any.

    Read in a row, file, message and remedy are the line that a user sees.
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
    """What is wrong with a record, raised where it shows; whoever knows the file and the record makes it a Finding."""

    def __init__(self, kind: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.kind, self.message, self.remedy = kind, message, remedy

    def at(self, file: Path, id: int | str | None, where: str = "") -> Finding:
        """The error of the record `id` of `file`; `where` leads the message to it."""
        message = one_line(f"{where}: {self.message}" if where else self.message)
        return Finding(self.kind, "error", file, id, message[:LONGEST], one_line(self.remedy)[:LONGEST])


# A reader tells what it finds and, where it is let go on, leaves the record out.
Report = Callable[[Finding], None]


def refuse(finding: Finding) -> None:
    """What readers do unless told otherwise: an error ends the reading. Raises DataError."""
    if finding.severity == "error":
        raise DataError(str(finding))

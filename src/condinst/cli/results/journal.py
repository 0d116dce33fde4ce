"""results.jsonl: a line for each picture, written as soon as it is predicted. Closing makes results.json of it.

The first line holds the settings of the run. Every other line belongs to one source: `{"source", "image",
"annotations"}`, or `{"source", "left_out": reason}`. A later line of a source replaces an earlier one; closing removes
replaced lines. Memory holds nine bytes for each source and one line at a time.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from condinst.cli.results.staging import temporary_name
from condinst.errors import CondinstError, UsageError, some
from condinst.strict_json import RepeatedKeyError, parse_json

JOURNAL = "results.jsonl"
FIRST_KEY = "condinst_predict"  # of the first line: the version of this format
VERSION = 1
WAITING, DONE, LEFT_OUT, INCOMPLETE = range(4)  # what is known of a source; INCOMPLETE: a file of it is missing

Record = dict[str, Any]


class Journal:
    """Appends lines and knows where the newest line of each source begins."""

    def __init__(self, path: Path, header: Record, count: int, mode: str) -> None:
        self.path, self.header = path, header
        self.offsets = array("q", [-1]) * count
        self.states = bytearray(count)
        self.replaced = 0  # lines that a later line of their source replaces
        self.end = 0
        try:
            self.file = path.open(mode, buffering=0)
        except OSError as error:
            raise _unwritable(path, error) from None

    @classmethod
    def begin(cls, path: Path, header: Record, count: int) -> Journal:
        """A new journal for `count` sources. Raises CondinstError if it cannot be written."""
        journal = cls(path, header, count, "x+b")
        try:
            journal._write({FIRST_KEY: VERSION, **header})
        except BaseException:  # an empty file would belong to no run
            journal.close()
            path.unlink(missing_ok=True)
            raise
        return journal

    @classmethod
    def go_on(cls, path: Path, header: Record, keys: Sequence[str], exists: Callable[[str], bool]) -> Journal:
        """The journal of a run that ended early; a line that was not written whole is cut off.

        keys: of each source. exists: whether a file that a line names is there. Raises UsageError where the settings
        differ, or where pictures of the journal are no longer among the sources.
        """
        before = read_header(path)
        for key in header | before:
            if before.get(key) != header.get(key):
                raise UsageError(_difference(path, key, before.get(key), header.get(key)))
        journal = cls(path, header, len(keys), "r+b")
        where = {key: index for index, key in enumerate(keys)}
        gone = []
        for offset, record in journal._lines():
            if FIRST_KEY in record:
                continue
            index = where.get(record.get("source", ""))
            if index is None:
                gone.append(str(record.get("source")))
            else:
                journal._note(index, record, offset, exists)
        if gone:
            journal.close()
            raise UsageError(
                f"{path.parent}: has results of pictures that are not in the sources ({some(gone, 3)}); give the same "
                "sources, or add --overwrite"
            )
        journal.file.truncate(journal.end)
        return journal

    def append(self, index: int, record: Record) -> None:
        """Write the line of a source, whole or not at all. Raises CondinstError if it cannot be written."""
        offset = self.end
        self._write(record)
        self._note(index, record, offset, lambda _: True)

    def images(self) -> Iterator[Record]:
        """Records of the sources that have results, in the order of the sources, read one at a time."""
        with self.path.open("rb") as lines:
            for offset, state in zip(self.offsets, self.states, strict=True):
                if offset >= 0 and state != LEFT_OUT:
                    lines.seek(offset)
                    yield json.loads(lines.readline())

    def line_of(self, index: int) -> Record:
        """The newest line of a source; empty if there is none."""
        if self.offsets[index] < 0:
            return {}
        with self.path.open("rb") as lines:
            lines.seek(self.offsets[index])
            return parse_line(lines.readline(), self.path) or {}

    def drop_replaced(self) -> None:
        """Write the journal anew without replaced lines, in the order of the sources.

        The journal then has the same bytes as that of a run without interruption. If the disk is full, the journal
        stays as it is: replaced lines do no harm.
        """
        if not self.replaced:
            return
        temporary = temporary_name(self.path)
        offsets = array("q", self.offsets)
        try:
            with self.path.open("rb") as old, temporary.open("wb") as new:
                new.write(old.readline())
                for index, offset in enumerate(self.offsets):
                    if offset >= 0:
                        old.seek(offset)
                        offsets[index] = new.tell()
                        new.write(old.readline())
                end = new.tell()
            file = temporary.open("r+b", buffering=0)
            os.replace(temporary, self.path)
        except OSError:
            temporary.unlink(missing_ok=True)
            return
        self.file.close()
        self.file, self.offsets, self.end, self.replaced = file, offsets, end, 0

    def count(self, *states: int) -> int:
        """Return the number of sources in one of the states."""
        return sum(self.states.count(state) for state in states)

    def close(self) -> None:
        self.file.close()

    def _note(self, index: int, record: Record, offset: int, exists: Callable[[str], bool]) -> None:
        self.replaced += self.offsets[index] >= 0
        self.offsets[index] = offset
        if "left_out" in record:
            self.states[index] = LEFT_OUT
        elif record.get("not_written") or not all(exists(name) for name in files_of(record)):
            self.states[index] = INCOMPLETE
        else:
            self.states[index] = DONE

    def _lines(self) -> Iterator[tuple[int, Record]]:
        """Each whole line with its offset; `end` is then behind the last."""
        with self.path.open("rb") as lines:
            offset = 0
            for line in lines:
                record = parse_line(line, self.path)
                if line.endswith(b"\n"):
                    self.end = offset + len(line)
                if record is not None:
                    yield offset, record
                offset += len(line)

    def _write(self, record: Record) -> None:
        rest = memoryview(json.dumps(record, allow_nan=False).encode() + b"\n")
        end = self.end + len(rest)
        try:
            self.file.seek(self.end)
            while rest:
                rest = rest[self.file.write(rest) :]
            self.end = end
        except OSError as error:
            raise _unwritable(self.path, error) from None
        finally:
            if self.end != end:  # nothing after the last whole line, whatever stopped the writing
                os.ftruncate(self.file.fileno(), self.end)


def read_header(path: Path) -> Record:
    """The settings of the run that wrote a journal. Raises UsageError for a file of another program."""
    try:
        with path.open("rb") as lines:
            first = parse_line(lines.readline(2**24), path)
    except OSError as error:
        raise CondinstError(f"{path}: cannot be read ({error.strerror or error})") from None
    if not first or FIRST_KEY not in first:
        raise UsageError(
            f"{path}: `condinst predict` did not write this file, so --resume and --overwrite keep it; move it or "
            "choose another --out"
        )
    if first.pop(FIRST_KEY) != VERSION:
        raise UsageError(f"{path}: another version of condinst wrote this file; choose another --out")
    return first


def parse_line(line: bytes, path: Path) -> Record | None:
    """The record of a line of the journal at `path`; None for one that was not written whole.

    Raises CondinstError for a line with a key that stands twice, which condinst never writes.
    """
    try:
        record = parse_json(line) if line.endswith(b"\n") else None
    except RepeatedKeyError as error:
        raise CondinstError(f"{path}: damaged ({error}); move it away or choose another --out") from None
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def files_of(record: Record) -> list[str]:
    """The files that a line names, relative to the folder of the journal."""
    files = record.get("files", [])
    return [name for name in files if isinstance(name, str)] if isinstance(files, list) else []


def _difference(path: Path, key: str, before: object, now: object) -> str:
    if isinstance(before, str | int | float | None) and isinstance(now, str | int | float | None):
        return (
            f"{path.parent}: the earlier run had {key} {before}, this run has {now}; give the same options, or add "
            "--overwrite"
        )
    return f"{path.parent}: the earlier run had other settings ({key}); give the same options, or add --overwrite"


def _unwritable(path: Path, error: OSError) -> CondinstError:
    return CondinstError(
        f"{path}: cannot be written ({error.strerror or error}); free some space and continue with --resume"
    )

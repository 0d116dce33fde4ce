"""The results of one run: a journal line and files for each picture, closed into results.json however the run ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from condinst.cli.results.document import close_results, record_of
from condinst.cli.results.folder import inside, remove_run
from condinst.cli.results.formats import Saved
from condinst.cli.results.journal import DONE, INCOMPLETE, JOURNAL, LEFT_OUT, Journal, Record, files_of
from condinst.cli.results.names import any_exists, unique_stems
from condinst.cli.results.staging import Staging, remove_temporary
from condinst.errors import CondinstError, first_line
from condinst.sources.places import Source

if TYPE_CHECKING:
    from condinst.inference.result import Result


class Run:
    """A run of `condinst predict` and its folder. `journal` holds the finished sources, `work` yields the others."""

    def __init__(self, folder: Path, journal: Journal, saved: Saved, sources: Sequence[Source], old: bool) -> None:
        self.folder, self.journal, self.saved, self.sources = folder, journal, saved, sources
        self.keys = keys(sources)
        recorded = {record.get("stem") for record in journal.images()} if old else set()
        stems = (source.stem for source in sources)
        self._stems = enumerate(unique_stems(stems, lambda stem: stem not in recorded and self._taken(stem)))

    @classmethod
    def begin(cls, folder: Path, header: Record, sources: Sequence[Source], saved: Saved) -> Run:
        """A new run; what an earlier one wrote into the folder is removed. Raises CondinstError."""
        remove_run(folder)
        return cls(folder, Journal.begin(folder / JOURNAL, header, len(sources)), saved, sources, old=False)

    @classmethod
    def go_on(cls, folder: Path, header: Record, sources: Sequence[Source], saved: Saved) -> Run:
        """The run that the folder holds. Raises UsageError where it was begun with other settings or sources."""

        def exists(name: str) -> bool:
            return inside(folder, name) and (folder / name).exists()

        named = keys(sources) or [source.name for source in sources]
        journal = Journal.go_on(folder / JOURNAL, header, named, exists)
        remove_temporary(folder)
        return cls(folder, journal, saved, sources, old=True)

    def work(self, batch: int) -> Iterator[tuple[int, Source]]:
        """The sources to predict, with their numbers. Whole batches, as the pictures of one influence each other."""
        states = self.journal.states
        for start in range(0, len(states), batch):
            if states.count(DONE, start, start + batch) < len(states[start : start + batch]):
                for index in range(start, min(start + batch, len(states))):
                    yield index, self.sources[index]

    def add(self, index: int, result: Result, found: list[Record]) -> dict[str, str]:
        """Write the files and the line of a picture; reasons for the files that could not be written.

        Raises CondinstError where the line itself cannot be written.
        """
        from condinst.inference.instances.pixels import is_large

        stem = self._stem(index)
        record = record_of(self.sources[index], result.orig_shape, found)
        record |= {"source": self._key(index), "stem": stem}
        if self.sources[index].page is not None and not is_large(result):
            result = replace(result, image=result.orig_img)  # a copy of the file would hold the other pages, too
        staging = Staging(self.folder)
        failed: dict[str, str] = {}
        try:
            for file in self.saved.files(result, stem):
                try:
                    staging.add(file.name, file.make())
                except (OSError, ValueError, MemoryError, CondinstError) as error:  # Pillow's ValueError: too large
                    failed[file.name] = _reason(error)
                else:
                    _name(record["image"], file.kind, file.name)
            record |= {"files": list(staging.waiting)} | ({"not_written": list(failed)} if failed else {})
            before = files_of(self.journal.line_of(index))
            self.journal.append(index, record)
            late = staging.publish()
            self._remove(set(before) - set(files_of(record)))
        finally:
            staging.discard()
        return failed | {name: _reason(error) for name, error in late.items()}

    def leave_out(self, index: int, reason: str) -> None:
        """Note that a source has no result."""
        if not self.is_done(index):
            before = files_of(self.journal.line_of(index))
            self.journal.append(index, {"source": self._key(index), "left_out": reason})
            self._remove(before)

    def _remove(self, names: Iterable[str]) -> None:
        """Remove files of a replaced line, which show an earlier state of the picture."""
        for name in names:
            if inside(self.folder, name):
                with suppress(OSError):
                    (self.folder / name).unlink()

    def close(self) -> None:
        """Write results.json from the results so far. Raises CondinstError."""
        try:
            self.journal.drop_replaced()
            close_results(self.journal, self.folder)
        finally:
            self.journal.close()

    @property
    def finished(self) -> int:
        """Sources that are dealt with, left out or not."""
        return self.journal.count(DONE, LEFT_OUT, INCOMPLETE)

    @property
    def left_out(self) -> int:
        """Sources without a result."""
        return self.journal.count(LEFT_OUT)

    @property
    def has_results(self) -> bool:
        """Return whether any source has a result."""
        return self.journal.count(DONE, INCOMPLETE) > 0

    def is_done(self, index: int) -> bool:
        """Return whether the result of a source and all its files are there."""
        return self.journal.states[index] == DONE

    def _key(self, index: int) -> str:
        return self.keys[index] if self.keys else self.sources[index].name

    def _stem(self, index: int) -> str:
        return next(stem for number, stem in self._stems if number == index)

    def _taken(self, stem: str) -> bool:
        return any_exists(self.folder, self.saved.claims(stem))


def keys(sources: Sequence[Source]) -> list[str] | None:
    """Return the key of each source in the journal, or None if the names alone are unique.

    Names are alike where addresses differ in hidden parts only, or paths in bytes that are no UTF-8.
    """
    if len({source.name for source in sources}) == len(sources):
        return None
    seen: Counter[str] = Counter()
    found = []
    for source in sources:
        name = source.name
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} #{seen[name]}")
    return found


def _name(image: Record, kind: str, name: str) -> None:
    """Let the image entry name a file; several of a kind make a list."""
    if kind in ("masks", "crops"):
        image.setdefault(kind, []).append(name)
    else:
        image[kind] = name  # the annotations come after the picture they lie beside


def _reason(error: Exception) -> str:
    return first_line(error.strerror if isinstance(error, OSError) and error.strerror else error)


def failure(folder: Path, failed: dict[str, str]) -> str:
    """One line about the files of a picture that could not be written."""
    name, reason = next(iter(failed.items()))
    more = f" and {len(failed) - 1} more files" if len(failed) > 1 else ""
    return f"not written: {folder / name}{more}: {reason}"

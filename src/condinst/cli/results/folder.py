"""Check the folder of --out: a run replaces no file of the user, and earlier results only with --overwrite."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from condinst.cli.results.journal import JOURNAL, files_of, parse_line, read_header
from condinst.cli.results.staging import remove_temporary
from condinst.errors import CondinstError, UsageError
from condinst.sources.places import Source

RESULTS = "results.json"
TILES = ".condinst-tiles"  # the folder of the finished tiles of large pictures
DESCRIPTION = "predictions of the condinst model"  # how the description in results.json begins
OURS = f'{{"info": {{"description": "{DESCRIPTION}'


def has_run(folder: Path, resume: bool, overwrite: bool, run_files: Sequence[str]) -> bool:
    """Return whether the folder holds a run of `condinst predict`, to go on with or to be replaced.

    run_files: what the new run writes for all pictures together, beside results.json.
    Raises UsageError where that is not allowed, or where files of our names are the user's.
    """
    journal, results = folder / JOURNAL, folder / RESULTS
    ours = os.path.lexists(journal)
    old_files = read_header(journal).get("run_files", []) if ours else []
    foreign = [results] if os.path.lexists(results) and not _is_ours(results) else []
    foreign += [folder / name for name in run_files if name not in old_files and os.path.lexists(folder / name)]
    if foreign:
        raise UsageError(
            f"{foreign[0]}: `condinst predict` did not write this file, so --resume and --overwrite keep it; move it "
            "or choose another --out"
        )
    if not ours and not results.exists():
        return False
    if overwrite:
        return True
    if not resume:
        raise UsageError(
            f"{folder}: holds results of another run; add --resume to continue it, add --overwrite to replace it, or "
            "choose another --out"
        )
    if not ours:
        raise UsageError(
            f"{folder}: has {RESULTS} but no {JOURNAL}, so --resume cannot continue; add --overwrite to replace it"
        )
    return True


def remove_run(folder: Path) -> None:
    """Remove what an earlier run wrote, and nothing else."""
    journal = folder / JOURNAL
    try:
        if journal.exists():
            for _ in _listed(journal):  # a damaged line is an error before anything is removed
                pass
            folders: set[str] = set()
            run_files = [name for name in read_header(journal).get("run_files", []) if inside(folder, name)]
            for name in itertools.chain(_listed(journal), run_files):
                (folder / name).unlink(missing_ok=True)
                folders.update(str(parent) for parent in Path(name).parents)
            for name in sorted(folders - {"."}, key=len, reverse=True):
                with suppress(OSError):  # what holds other files stays
                    (folder / name).rmdir()
        remove_temporary(folder)
        if (folder / TILES).is_dir() and not (folder / TILES).is_symlink():
            shutil.rmtree(folder / TILES)
        for path in (folder / RESULTS, journal):  # the journal last: until then --overwrite can be tried again
            path.unlink(missing_ok=True)
    except OSError as error:
        raise CondinstError(f"{error.filename or folder}: cannot be removed ({error.strerror or error})") from None


def not_written_here(folder: Path, sources: Sequence[Source]) -> list[Source]:
    """The sources without what an earlier run wrote into the folder: its overlays are no pictures to predict."""
    parents = {source.path.parent for source in sources if source.path is not None}
    within = {parent for parent in parents if parent.resolve().is_relative_to(folder.resolve())}
    if not within or not (folder / JOURNAL).is_file():
        return list(sources)
    written = {(folder / name).resolve() for name in _listed(folder / JOURNAL)}

    def is_ours(source: Source) -> bool:
        return source.path is not None and source.path.parent in within and source.path.resolve() in written

    return [source for source in sources if not is_ours(source)]


def inside(folder: Path, name: str) -> bool:
    """Return whether a name from a journal stays within the folder; links to elsewhere do not."""
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        return False
    return (folder / name).parent.resolve().is_relative_to(folder.resolve())


def _listed(journal: Path) -> Iterator[str]:
    with journal.open("rb") as lines:
        for line in lines:
            for name in files_of(parse_line(line, journal) or {}):
                if inside(journal.parent, name):
                    yield name


def _is_ours(results: Path) -> bool:
    try:
        with results.open(encoding="utf-8", errors="replace") as file:
            return file.read(len(OURS)).lower() == OURS.lower()  # earlier versions wrote "CondInst"
    except OSError:
        return False

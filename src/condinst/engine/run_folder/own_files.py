"""Find the files in a folder that belong to a run.

A new run overwrites no other file, and a failed run removes no other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from condinst.engine.stop import list_checkpoints
from condinst.errors import CondinstError, UsageError, some
from condinst.weights.names import CONFIG_FILE, WEIGHTS_FILE

LAST = "last"  # holds the last weights where the folder itself holds the best ones
LABELS, PREDICTIONS, REPORT = "labels.svg", "predictions.jpg", "report.html"
LOG, SCORE_LINES, SCORE_TABLE, ENVIRONMENT = "log.csv", "scores.jsonl", "scores.csv", "environment.json"
HELD_OUT = "held-out.json"  # pictures that are measured on instead of trained on
NON_FINITE = "non-finite-{}"
DRAWN = 3  # first batches that are kept as pictures
BATCH = "batch-{}.jpg"

FILES = (
    *(ENVIRONMENT, CONFIG_FILE, LABELS, LOG, SCORE_LINES, SCORE_TABLE, WEIGHTS_FILE, PREDICTIONS, REPORT),
    *(BATCH.format(number) for number in range(1, DRAWN + 1)),
    HELD_OUT,
)
IN_LAST = (CONFIG_FILE, WEIGHTS_FILE)
# what a killed process leaves of a file that it was writing, and TensorBoard's files
PARTIAL = re.compile(rf"\.({'|'.join(map(re.escape, FILES))})\.[0-9a-f]{{32}}\.part")
HALF_CHECKPOINTS = ".checkpoint-*.*/*"
TRACKED = ("tensorboard/**/events*", "tensorboard/**/hparams.yml")


def find_own(folder: Path) -> set[Path]:
    """The files in `folder` that bear the names of a run's files."""
    found = {folder / name for name in FILES} | {folder / LAST / name for name in IN_LAST} | set(find_partial(folder))
    found |= {path for pattern in (HALF_CHECKPOINTS, *TRACKED) for path in folder.glob(pattern)}
    return {path for path in found if path.is_file()}


def find_partial(folder: Path) -> list[Path]:
    """Return the unfinished files that a killed process has left."""
    hidden = [*folder.glob(".*.part"), *(folder / LAST).glob(".*.part")]
    return [path for path in hidden if PARTIAL.fullmatch(path.name) and path.is_file()]


def refuse_overwriting(folder: Path) -> None:
    """Raise UsageError where a new run would overwrite another run's files, or a user's.

    What a run has left that was killed before its first checkpoint may be overwritten.
    """
    if list_checkpoints(folder) or (folder / WEIGHTS_FILE).exists():
        raise UsageError(f"{folder}: already holds a training run; add --resume to continue, or choose another --out")
    held = [name for name in FILES if (folder / name).exists() and name != HELD_OUT]
    if held and not (folder / ENVIRONMENT).is_file():  # the first file that a run writes
        raise UsageError(f"{folder}: holds {some(held)}, which training would overwrite; choose another --out")


def check_places(folder: Path) -> None:
    """Raise CondinstError where a file of the run cannot be written because a folder has its name, or the reverse."""
    for name in (*FILES, *(f"{LAST}/{name}" for name in IN_LAST)):
        if (folder / name).is_dir():
            raise CondinstError(
                f"{folder / name}: is a folder, but training writes a file of this name; rename the folder"
            )
    if (folder / LAST).exists() and not (folder / LAST).is_dir():
        raise CondinstError(f"{folder / LAST}: is a file, but training makes a folder of this name; rename the file")


@contextmanager
def emptied_on_failure(folder: Path, main: bool) -> Iterator[None]:
    """If a run fails before there is anything to keep, remove the files that it wrote; no others.

    main: whether this is the process that writes to the folder.
    """
    existed, before = folder.exists(), find_own(folder) if main else set()
    try:
        yield
    except BaseException:
        if main and not _worth_keeping(folder):
            with suppress(OSError):  # the user sees why the run ended
                _remove(folder, find_own(folder) - before)
                if not existed:
                    folder.rmdir()
        raise


def _remove(folder: Path, files: set[Path]) -> None:
    """Remove files, and the folders below `folder` that are empty without them."""
    for path in files:
        path.unlink()
    parents = {parent for path in files for parent in path.parents if folder in parent.parents}
    for parent in sorted(parents, key=lambda parent: len(parent.parts), reverse=True):
        with suppress(OSError):  # it holds something of the user's
            parent.rmdir()


def _worth_keeping(folder: Path) -> bool:
    """Return whether a run can be resumed or its model used, or a step was saved to be looked at."""
    saved = any(folder.glob(NON_FINITE.format("*")))
    return saved or bool(list_checkpoints(folder)) or (folder / WEIGHTS_FILE).exists()

"""A run that is stopped from outside: by what, and where it can go on. Without torch, which may be half loaded then."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

NAME = "checkpoint-{:08d}"
NUMBERED = re.compile("checkpoint-[0-9]{8,}")


class Terminated(KeyboardInterrupt):
    """SIGTERM, as a batch system or a launcher sends it, ends a run as Ctrl-C does."""


@contextmanager
def terminable() -> Iterator[None]:
    """Within, SIGTERM raises Terminated. For the main thread, which alone may decide on signals."""

    def end(_: int, __: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def list_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first. A user's own file or folder of a similar name is none."""
    found = [path for path in folder.glob("checkpoint-*") if NUMBERED.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=iteration_of)


def iteration_of(checkpoint: Path) -> int:
    """The iteration at which it was written."""
    return int(checkpoint.name.rpartition("-")[2])


def remedy(folder: Path) -> str:
    """What to do once a run could not write to its folder."""
    return f"free some space and {'--resume' if list_checkpoints(folder) else 'start again'}"


def last_iteration(folder: Path) -> int:
    """That of the newest complete checkpoint; 0 without one."""
    found = list_checkpoints(folder)
    return iteration_of(found[-1]) if found else 0

"""A run that is stopped from outside: by what, and where it can go on. Without torch, which may be half loaded then."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

NAME = "checkpoint-{:08d}"


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
    """Complete checkpoints of a run, oldest first."""
    return sorted(folder.glob("checkpoint-????????"))


def remedy(folder: Path) -> str:
    """What to do once a run could not write to its folder."""
    return f"free some space and {'--resume' if list_checkpoints(folder) else 'start again'}"


def last_iteration(folder: Path) -> int:
    """That of the newest complete checkpoint; 0 without one."""
    found = list_checkpoints(folder)
    return int(found[-1].name.rpartition("-")[2]) if found else 0

"""Stopping and resuming a run. This module does not import torch, which may be only partly loaded."""

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
    """Raised for SIGTERM, the signal of a batch system or a launcher. It ends a run like Ctrl-C."""


@contextmanager
def terminable() -> Iterator[None]:
    """Make SIGTERM raise Terminated within the block. Only the main thread can handle signals."""

    def end(_: int, __: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the complete checkpoints of a run, oldest first. Other files with a similar name are ignored."""
    found = [path for path in folder.glob("checkpoint-*") if NUMBERED.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=iteration_of)


def iteration_of(checkpoint: Path) -> int:
    """Return the iteration of a checkpoint."""
    return int(checkpoint.name.rpartition("-")[2])


def remedy(folder: Path) -> str:
    """Return advice for a run that could not write to its folder."""
    return f"free some space and {'--resume' if list_checkpoints(folder) else 'start again'}"


def last_iteration(folder: Path) -> int:
    """Return the iteration of the newest complete checkpoint; 0 without one."""
    found = list_checkpoints(folder)
    return iteration_of(found[-1]) if found else 0

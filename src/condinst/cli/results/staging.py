"""The files of one picture: written under temporary names, and renamed once the journal knows them."""

from __future__ import annotations

import os
import re
import uuid
from contextlib import suppress
from pathlib import Path

TEMPORARY = re.compile(r"\.condinst-[0-9a-f]{32}\.part")


class Staging:
    """Files waiting to get their names. A killed run leaves at most temporary ones (see `remove_temporary`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.waiting: dict[str, Path] = {}

    def add(self, name: str, content: bytes) -> None:
        """Write the file that will be called `name`, relative to the folder; raises OSError and leaves no rest."""
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_name(target)
        try:
            temporary.write_bytes(content)
            with suppress(FileNotFoundError):
                os.lstat(target)  # a name that is too long fails now, not at the renaming
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        self.waiting[name] = temporary

    def publish(self) -> dict[str, OSError]:
        """Give every file its name; the errors of those that cannot get it."""
        failed = {}
        for name, temporary in self.waiting.items():
            try:
                os.replace(temporary, self.folder / name)
            except OSError as error:
                failed[name] = error
        self.discard()
        return failed

    def discard(self) -> None:
        """Remove what has not got its name."""
        for temporary in self.waiting.values():
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        self.waiting = {}


def temporary_name(target: Path) -> Path:
    """A name beside `target` that no user gives a file."""
    return target.with_name(f".condinst-{uuid.uuid4().hex}.part")


def remove_temporary(folder: Path) -> None:
    """Remove what a killed run left unnamed in a folder and those below."""
    for parent, _, names in os.walk(folder):
        for name in names:
            if TEMPORARY.fullmatch(name):
                with suppress(OSError):
                    os.unlink(os.path.join(parent, name))

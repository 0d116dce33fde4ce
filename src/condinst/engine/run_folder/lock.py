"""One run at a time in a folder."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from condinst.errors import CondinstError, UsageError

LOCK = ".condinst.lock"
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP)  # some network drives have none; training there goes on without


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other runs out of an existing folder. Raises UsageError where one is training in it.

    The operating system holds the lock and lets it go when the process ends, however it ends. A process may take the
    lock of a folder that it already holds.
    """
    lock = FileLock(folder / LOCK, timeout=0, is_singleton=True)
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(
            f"{folder}: another run is training in this folder; wait for its end, or choose another --out"
        ) from None
    except OSError as error:
        if error.errno in NO_LOCKS:
            yield
            return
        raise CondinstError(f"{folder}: cannot be locked ({error.strerror or error}); choose another --out") from None
    try:
        yield
    finally:
        if lock.lock_counter == 1:  # the outermost
            with suppress(OSError):  # Windows removes no file that is open
                (folder / LOCK).unlink()
        lock.release()

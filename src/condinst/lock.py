"""Allow one run at a time in a folder."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from condinst.errors import CondinstError, UsageError

LOCK = ".condinst.lock"
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP)  # some network drives have no locks; a run there is not protected


@contextmanager
def locked(folder: Path, work: str, reentrant: bool = False) -> Iterator[None]:
    """Create `folder` if needed and keep other runs out of it. Remove folders that the function created and left empty.

    work: what a run does in the folder, for the message, such as "training". reentrant: whether this process may lock
    a folder that it has locked already. Raises UsageError if another run has the lock, CondinstError if the folder
    cannot be locked. The operating system releases the lock when the process ends, however it ends.
    """
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    lock = FileLock(folder / LOCK, timeout=0, is_singleton=reentrant)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise UsageError(
            f"{folder}: another run is {work} in this folder; wait for its end, or choose another --out"
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise CondinstError(
                f"{folder}: cannot be written ({error.strerror or error}); choose another --out"
            ) from None
    try:
        yield
    finally:
        if lock.lock_counter == 1:  # the outermost lock of this process
            with suppress(OSError):  # Windows cannot remove an open file
                (folder / LOCK).unlink()
        lock.release()
        for each in made:
            with suppress(OSError):  # the folder holds files
                each.rmdir()

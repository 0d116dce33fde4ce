"""Choose whether the C library keeps freed memory in the process or returns it to the system."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Mapping

# Options of malloc.h. Every step allocates and frees the same large feature maps. By default, glibc returns the
# memory to the system each time. Clearing the newly allocated pages can take as long as the computation.
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
KEEP = {TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 2**26, MMAP_MAX: 0}
RETURN = {TRIM_THRESHOLD: 2**17, TOP_PAD: 2**17, MMAP_MAX: 2**16}  # glibc's defaults


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory for the next step. Return whether glibc accepted the setting.

    Only the command line calls this function. The function changes nothing if the user has set one of glibc's variables
    (MALLOC_…, GLIBC_TUNABLES), or if the C library is not glibc.
    """
    return _set(KEEP)


def return_freed_memory() -> bool:
    """Make glibc return freed memory to the system, now and later. Return whether glibc accepted the setting.

    A forked process has the free memory of its parent. Each of these pages costs memory again once the process uses it.
    """
    return trim() and _set(RETURN)


def trim() -> bool:
    """Return the memory that is free now to the system. Return whether the C library can do this."""
    if platform.libc_ver()[0] != "glibc":
        return False
    ctypes.CDLL(None).malloc_trim(0)
    return True


def _set(options: Mapping[int, int]) -> bool:
    decided = "GLIBC_TUNABLES" in os.environ or any(name.startswith("MALLOC_") for name in os.environ)
    if decided or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return {mallopt(option, value) for option, value in options.items()} == {1}  # 0: refused

"""Keep freed memory in the process for faster computation."""

from __future__ import annotations

import ctypes
import os
import platform

# Options of malloc.h. Every step allocates and frees the same large feature maps. By default, glibc returns the
# memory to the system each time. Clearing the newly allocated pages can take as long as the computation.
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
SETTINGS = {TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 2**26, MMAP_MAX: 0}


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory for the next step. Return whether glibc accepted the setting.

    Only the command line calls this function. The function changes nothing if the user has set one of glibc's variables
    (MALLOC_…, GLIBC_TUNABLES), or if the C library is not glibc.
    """
    decided = "GLIBC_TUNABLES" in os.environ or any(name.startswith("MALLOC_") for name in os.environ)
    if decided or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return {mallopt(option, value) for option, value in SETTINGS.items()} == {1}  # 0: refused

"""How a command's process treats memory it has freed."""

from __future__ import annotations

import ctypes
import os
import platform

# of malloc.h. Every step takes and frees the same large maps; by default glibc gives them back to the system each time,
# and clearing the pages it gets anew can take as long as the arithmetic
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
SETTINGS = {TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 2**26, MMAP_MAX: 0}


def keep_freed_memory() -> bool:
    """Let glibc keep what is freed for the next step; tells whether it does.

    For processes that are ours: a program that uses the package decides for itself, and so does a user who has set one
    of glibc's own variables (MALLOC_…, GLIBC_TUNABLES). Elsewhere than with glibc, nothing happens.
    """
    decided = "GLIBC_TUNABLES" in os.environ or any(name.startswith("MALLOC_") for name in os.environ)
    if decided or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return {mallopt(option, value) for option, value in SETTINGS.items()} == {1}  # 0: refused

"""A command's process keeps the memory it frees."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library decides for itself")
# how many pages the system hands out while the same 64 MB are taken, filled and freed again and again
PROGRAM = """
import ctypes, resource, sys
from condinst.allocator import keep_freed_memory
kept = keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def step():
    block = libc.malloc(64_000_000)
    ctypes.memset(block, 1, 64_000_000)
    libc.free(block)
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(**variables: str) -> tuple[str, int]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=own | variables, capture_output=True, text=True, check=True
    )
    kept, faults = done.stdout.split()
    return kept, int(faults)


@GLIBC
def test_pages_stay() -> None:
    kept, faults = run()
    assert kept == "True"
    assert faults < 1000  # 10 times 64 MB would be 156,250 pages of 4 KiB


@GLIBC
def test_who_has_chosen_keeps_the_choice() -> None:
    kept, faults = run(MALLOC_MMAP_THRESHOLD_="65536")
    assert kept == "False"
    assert faults > 100_000


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from condinst import allocator

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not allocator.keep_freed_memory()

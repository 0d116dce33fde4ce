"""Free memory of the machine, and the memory that this process uses."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import psutil

from condinst.allocator import trim

CGROUP = Path("/sys/fs/cgroup")  # of a container, Linux
OWN = Path("/proc/self")  # Linux


def free_memory() -> int:
    """Bytes that programs can still have, of the machine or of the container that this runs in."""
    free = int(psutil.virtual_memory().available)
    try:
        limit, used = ((CGROUP / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        return free if limit == "max" else max(min(free, int(limit) - int(used)), 0)
    except (OSError, ValueError):
        return free


def resident_memory() -> int:
    """Bytes that this process holds in memory now."""
    return int(psutil.Process().memory_info().rss)


def peak_memory() -> int:
    """The most bytes that this process has held in memory, since its start or since `forget_peak`."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    with suppress(OSError, StopIteration, ValueError):  # getrusage would begin at what the parent process held
        lines = (OWN / "status").read_text().splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def forget_peak() -> None:
    """Give freed memory back to the system, and start the measurement of `peak_memory` again. Works on Linux only."""
    trim()
    with suppress(OSError):
        (OWN / "clear_refs").write_text("5")


def memory_of_children() -> int:
    """Bytes that the child processes hold for themselves: memory that they share with this process counts here only."""
    total = 0
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has ended, or the system does not tell
            total += int(child.memory_full_info().uss)
    return total

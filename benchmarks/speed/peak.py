"""The other process of `measure.peak_memory`: makes a contestant, runs it twice and prints its peak in bytes."""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import sys
from pathlib import Path

import torch

from benchmarks.speed.measure import Work, synchronize
from condinst.errors import CondinstError

CALLS = 2


def main(module: str, function: str, device: str, threads: str, arguments: str) -> None:
    torch.set_num_threads(int(threads))
    work: Work = getattr(importlib.import_module(module), function)(device=device, **json.loads(arguments))
    print(on_cpu(work) if device == "cpu" else on_card(work, device))


def on_cpu(work: Work) -> float:
    """Resident memory, above what is in use before the first run."""
    _give_back()
    before = _status("VmRSS")
    peaks = []
    for _ in range(CALLS):
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark becomes what is resident now
        work()
        peaks.append(_status("VmHWM") - before)
        _give_back()
    return max(peaks)


def on_card(work: Work, device: str) -> float:
    """What torch allocates there, above what it holds before the first run."""
    synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    for _ in range(CALLS):
        work()
    synchronize(device)
    return float(torch.cuda.max_memory_allocated(device) - before)


def _give_back() -> None:
    """Unused pages to the system: what was used and freed before must not hide what the next run needs."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def _status(key: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return 1024 * float(line.split()[1])
    raise CondinstError(f"/proc/self/status: no {key}; memory is measured on Linux only")


if __name__ == "__main__":
    main(*sys.argv[1:])

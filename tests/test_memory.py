"""The memory that a process uses: now, at most, and in its child processes."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import subprocess, sys
from condinst.memory import forget_peak, memory_of_children, peak_memory, resident_memory
before, size = resident_memory(), 200_000_000
block = b"1" * size
held, most = resident_memory(), peak_memory()
del block
forget_peak()
again = peak_memory()
child = subprocess.Popen([sys.executable, "-c", f"block = b'1' * {size}; print(1, flush=True); input()"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
of_child = memory_of_children()
child.communicate(b"x")
print(held - before, most - before, again - before, of_child, memory_of_children())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forgets a peak")
def test_200_mb() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    held, most, again, of_child, after = map(int, done.stdout.split())
    assert 195e6 < held <= most < 230e6
    assert again < 50e6
    assert 195e6 < of_child < 230e6
    assert after == 0

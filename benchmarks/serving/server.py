"""A server of condinst in a process of its own, for a benchmark."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from condinst.errors import CondinstError

FAULTY = Path(__file__).parent / "faulty.py"


@dataclass(frozen=True)
class Server:
    """A running server."""

    process: subprocess.Popen[str]
    port: int

    @property
    def resident_mib(self) -> float:
        """Memory that the process holds, in MiB."""
        return round(psutil.Process(self.process.pid).memory_info().rss / 2**20, 1)

    def stop(self) -> int:
        """Send SIGTERM and return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def running(threads: int, *options: str, faulty: bool = False) -> Iterator[Server]:
    """Start `condinst serve` on a free port. faulty: requests with conf=0.9 raise an unexpected exception."""
    program = [str(FAULTY)] if faulty else ["-m", "condinst"]
    command = [sys.executable, *program, "serve", "--port", "0", "--device", "cpu", *options]
    variables = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
    log = None if not faulty else subprocess.DEVNULL  # the tracebacks of the faults
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=variables) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
            if not found:
                raise CondinstError(f"the server did not start: {line.strip() or 'no output'}")
            yield Server(process, int(found[1]))
        finally:
            process.kill()

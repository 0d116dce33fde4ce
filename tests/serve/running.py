"""`condinst serve` in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx

ROOT = Path(__file__).parent.parent.parent
PICTURES = ROOT / "examples" / "images"
NUCLEI = PICTURES / "nuclei" / "fluorescence.png"
SERVING = re.compile(r"serving .* on http://([\w.\[\]:]+):(\d+) ")


@dataclass
class Running:
    """A server in a process. lines: what it has printed on both outputs."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **options: object) -> httpx.Client:
        return httpx.Client(base_url=self.address, timeout=60, **options)  # type: ignore[arg-type]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(30)


def start(*arguments: str, program: Path | None = None, **environment: str) -> Running:
    """Start `condinst serve` on a free port and wait until it serves, or until it has ended.

    program: a Python file that takes the place of condinst.
    """
    what = ["-m", "condinst"] if program is None else [str(program)]
    words = [sys.executable, *what, "serve", "--port", "0", *arguments]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **environment}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=variables)
    running = Running(process)
    assert process.stdout is not None
    for line in process.stdout:
        running.lines.append(line)
        if found := SERVING.match(line):
            running.port = int(found[2])
            break
    threading.Thread(target=lambda: running.lines.extend(process.stdout or ()), daemon=True).start()
    return running


def wait_for(happened: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until something has happened, and fail after some seconds."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)

"""One run at a time in a folder, and no lock that outlives its process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from condinst.errors import UsageError
from condinst.lock import LOCK, locked

lock = partial(locked, work="training", reentrant=True)
HOLD = """
import sys, time, multiprocessing
from pathlib import Path
from condinst.lock import locked
def tell_and_wait():
    print("held", flush=True)
    time.sleep(60)
with locked(Path(sys.argv[1]), "training"):
    if len(sys.argv) > 2:  # as a loader's process, which outlives a killed parent for a while
        multiprocessing.get_context("fork").Process(target=tell_and_wait).start()
        time.sleep(60)
    tell_and_wait()
"""


def hold(folder: Path, *words: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-c", HOLD, str(folder), *words]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills what it forks")
@pytest.mark.parametrize("words", [(), ("child",)])
def test_a_second_run_is_refused_until_the_first_is_gone(tmp_path: Path, words: tuple[str, ...]) -> None:
    process = hold(tmp_path, *words)
    try:
        with (
            pytest.raises(UsageError, match="another run is training in this folder"),
            lock(tmp_path),
        ):
            pass
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert (tmp_path / LOCK).exists()
        with lock(tmp_path):
            pass
        assert not (tmp_path / LOCK).exists()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_within_a_process_it_is_taken_twice(tmp_path: Path) -> None:
    with lock(tmp_path):
        with lock(tmp_path):
            pass
        assert (tmp_path / LOCK).exists()
    assert not list(tmp_path.iterdir())

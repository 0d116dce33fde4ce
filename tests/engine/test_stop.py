"""SIGTERM as an exception, and what is known of a stopped run without torch."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from condinst.engine.stop import Terminated, last_iteration, list_checkpoints, terminable


@pytest.mark.skipif(os.name == "nt", reason="Windows ends the process itself")
def test_sigterm_is_an_exception_within_and_as_before_after() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated), terminable():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_newest_whole_checkpoint_counts(tmp_path: Path) -> None:
    assert last_iteration(tmp_path) == 0
    for name in ("checkpoint-00000009", "checkpoint-00000010", ".checkpoint-00000011.tmp"):
        (tmp_path / name).mkdir()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-00000009", "checkpoint-00000010"]
    assert last_iteration(tmp_path) == 10


def test_it_needs_no_torch() -> None:
    """Ctrl-C while torch is being loaded leaves it half loaded, and a second import fails."""
    code = "import sys, condinst.engine.stop; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"

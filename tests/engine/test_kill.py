"""A run that is killed, again and again and wherever it is, ends as one that was left alone, to the bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = "benchmarks.survival.kill_training"
ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills what it forks")
def test_killed_at_any_moment() -> None:
    """With moving average, accumulation, early stopping and the best weights kept; `make kill` kills 200 times."""
    done = subprocess.run(
        [sys.executable, "-m", PROGRAM, "--kills", "8"],
        cwd=ROOT,
        env=os.environ
        | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["kills"] == 8

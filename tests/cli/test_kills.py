"""A few SIGKILLs at random moments of `condinst predict`; `make kill` does more."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
def test_killed_runs_end_with_the_same_bytes(model_folder: Path) -> None:
    program = [sys.executable, "-m", "benchmarks.survival.kill_predict"]
    options = ["--kills", "5", "--pictures", "4", "--model", str(model_folder)]
    done = subprocess.run([*program, *options], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kills"] == 5

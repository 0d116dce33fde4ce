"""A few SIGKILLs at random moments of `condinst predict`; `benchmarks/predict/kills.py --kills 100` does more."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent.parent.parent / "benchmarks" / "predict" / "kills.py"


@pytest.mark.slow
def test_killed_runs_end_with_the_same_bytes(model_folder: Path) -> None:
    command = [sys.executable, str(PROGRAM), "--kills", "5", "--pictures", "4", "--model", str(model_folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"kills": 5, "folders": json.loads(done.stdout)["folders"], "different": 0}

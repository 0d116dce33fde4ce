"""A sample of the fuzz program's damaged files; `make fuzz` tries 10,000."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the fuzz program forks its workers")
def test_damaged_files_end_in_one_line(tmp_path: Path) -> None:
    words = ["-m", "benchmarks.fuzz", "--count", "150", "--seed", "7", "--out", str(tmp_path / "faults")]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "150 inputs" in done.stdout

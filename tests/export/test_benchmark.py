"""`condinst benchmark` times every way that works on this machine."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from condinst.cli.main import app


@pytest.mark.slow
def test_all_ways(model_folder: Path, pictures: list[Path]) -> None:
    line = ["benchmark", "--model", str(model_folder), "--image", str(pictures[0]), "--rounds", "2", "--threads", "1"]
    done = CliRunner().invoke(app, [*line, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["threads"] == 1
    names = ["PyTorch, exact", "PyTorch, fast", "ONNX Runtime", "OpenVINO", "OpenVINO, 16 bit"]
    assert [way["name"] for way in found["ways"]] == names
    counts = {way["name"]: way["instances"] for way in found["ways"]}
    assert counts["ONNX Runtime"] == counts["OpenVINO"] == counts["PyTorch, exact"]
    for way in found["ways"]:
        assert 0 < sum(way["stages"]) <= way["total"] * 1.01
        assert way["megabytes"] > 0
        assert way["mask"] is None
    assert np.isfinite([way["total"] for way in found["ways"]]).all()


def test_wrong_arguments(tmp_path: Path) -> None:
    for line in (["--model", "nucleus"], ["--rounds", "0"], ["--data", str(tmp_path / "none")]):
        done = CliRunner().invoke(app, ["benchmark", *line])
        assert done.exit_code in {2, 3, 4}
        assert "Traceback" not in done.stderr

"""The program for ExecuTorch, run by its own runtime in the comparison that the command makes."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.export.conftest import export


@pytest.mark.slow
@pytest.mark.skipif(find_spec("executorch") is None, reason="executorch is not installed: pip install executorch")
def test_the_comparison_passes(model_folder: Path, pictures: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = export(model_folder, out, pictures, "--format", "executorch", "--fixed", "64x96")
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "config.yaml", "model.pte"]
    assert "| 0.png | 20 and 20 |" in (out / "README.md").read_text()

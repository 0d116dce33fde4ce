"""The record of backbones: a run of some pairs keeps the others, if they saw as many pictures."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks.accuracy.backbones import record
from condinst.recipes import load_recipe

PARTS = {"AP": 0.4, "AP50": 0.8, "AP75": 0.4}
RUN = {"seconds": 9, "parameters": 5, "file_bytes": 7, "scores": {"bbox": PARTS, "segm": PARTS}}


def test_other_pairs_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(pair: str, steps: int) -> dict[str, object]:
        out = tmp_path / f"out-{pair}"
        (out / pair).mkdir(parents=True, exist_ok=True)
        (out / pair / "measured.json").write_text(json.dumps(RUN | {"settings": {"data": "cells"}}))
        config = load_recipe("small").with_overrides([f"train.iterations={steps}", "train.batch_size=4"])
        monkeypatch.setattr(sys, "argv", ["x", "small", "cells", "out", "--methods", "fcos", "train.iterations=9"])
        record(tmp_path, "cells", config, out)
        found: dict[str, object] = json.loads((tmp_path / "benchmarks/results/backbones/cells-0.json").read_text())
        return found

    assert measured("lite0-fcos", 100)["runs"] == {"lite0-fcos": RUN}
    both = measured("lite2-fcos", 100)
    assert both["runs"] == {"lite0-fcos": RUN, "lite2-fcos": RUN}
    assert both["command"] == "python -m benchmarks.accuracy.backbones small cells out train.iterations=9"
    assert measured("lite2-dynamic", 50)["runs"] == {"lite2-dynamic": RUN}

"""Results of this or of an earlier version may be overwritten; those of another program may not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from condinst.cli.results.folder import _is_ours


@pytest.mark.parametrize(
    ("description", "own"),
    [
        ("predictions of the condinst model 'nuclei'", True),
        ("predictions of the CondInst model 'nuclei'", True),
        ("predictions of another program", False),
    ],
)
def test_which_results_are_ours(description: str, own: bool, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    results.write_text(json.dumps({"info": {"description": description}}))
    assert _is_ours(results) == own

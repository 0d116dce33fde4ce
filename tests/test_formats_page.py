"""What docs/reference/formats.md shows is so: its commands run in order, and every format has its section."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from condinst.data.formats.find import FORMATS
from condinst.data.open import list_splits, open_data

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "reference" / "formats.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_commands_run_as_written(tmp_path: Path) -> None:
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    commands = re.findall(r"^condinst data convert .*$", PAGE, re.M)
    assert len(commands) == 3
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("train: 4 pictures, ")
    converted = tmp_path / "converted"
    assert [list_splits(converted / name) for name in ("yolo", "labelme", "coco")] == [
        ("train", "val"), ("train",), ("train",),
    ]  # fmt: skip
    whole = open_data(ROOT / "tests" / "data" / "coco_mini")
    crowds = sum(each.crowd for sample in whole.samples for each in sample.instances)
    objects = sum(len(sample.instances) for sample in whole.samples)
    assert sum(len(sample.instances) for sample in open_data(converted / "coco").samples) == objects - crowds


def test_every_format_has_its_row_and_section() -> None:
    rows = re.findall(r"^\| \[([^\]]+)\]\(#([a-z0-9-]+)\)", PAGE, re.M)
    assert [name for name, _ in rows] == [format.name for format in FORMATS]
    headings = re.findall(r"^## (.*)$", PAGE, re.M)
    slugs = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert {slug for _, slug in rows} <= slugs

"""docs/reference/checks.md lists what the doctor finds, no more and no less, and its commands run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs" / "reference" / "checks.md").read_text(encoding="utf-8")
KIND = re.compile(
    r"""(?:[Ff]inding|RecordError|Change|Remark)\(\s*"([a-z]+-[a-z]+)"|finding_about\(\s*\w+,\s[\w.]+,\s"([a-z]+-[a-z]+)"|"([a-z]+-picture)\b"""
)


def kinds_in_the_code() -> set[str]:
    files = [*(ROOT / "src/condinst/data").rglob("*.py"), *(ROOT / "src/condinst/doctor").rglob("*.py")]
    return {
        kind for file in files for found in KIND.findall(file.read_text(encoding="utf-8")) for kind in found if kind
    }


def test_the_guide_lists_every_kind() -> None:
    rows = [line for line in GUIDE.splitlines() if line.startswith("| `") and "--" not in line]
    listed = {kind for row in rows for kind in re.findall(r"`([a-z]+-[a-z]+)`", row.split("|")[1])}
    assert kinds_in_the_code() - listed == set()
    assert listed - kinds_in_the_code() == set()
    assert len(listed) > 40


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [it for it in re.findall(r"^condinst .*$", GUIDE, re.MULTILINE) if "my_data" not in it]
)
def test_commands_run(command: str, tmp_path: Path) -> None:
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    script = Path(sys.executable).parent / "condinst"
    done = subprocess.run(
        [script, *command.split()[1:]], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()

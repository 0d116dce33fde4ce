"""The documentation site builds without a warning, every page is in its navigation, and generated pages are current."""

from __future__ import annotations

import importlib.util
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from condinst import errors
from condinst.config import Config
from tools import reference

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def navigation(entries: list[object]) -> list[str]:
    found: list[str] = []
    for entry in entries:
        if isinstance(entry, str):
            found.append(entry)
        elif isinstance(entry, dict):
            for value in entry.values():
                found += navigation(value if isinstance(value, list) else [value])
    return found


def test_every_page_is_in_the_navigation() -> None:
    listed = navigation(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


@pytest.mark.slow
def test_site_builds_strictly(tmp_path: Path) -> None:
    if importlib.util.find_spec("zensical") is None or importlib.util.find_spec("mkdocstrings") is None:
        pytest.skip("zensical and mkdocstrings-python are not installed (extra docs)")
    shutil.copytree(DOCS, tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    (tmp_path / "src").symlink_to(ROOT / "src")
    line = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    api = (tmp_path / "site" / "reference" / "python.html").read_text(encoding="utf-8")
    assert "max_detections" in api
    assert len(list((tmp_path / "site").rglob("*.html"))) >= len(list(DOCS.rglob("*.md")))


@pytest.mark.parametrize(
    "name",
    [
        "cli.md",
        "settings.md",
        "python.md",
        "model-nuclei.md",
        "model-mushrooms.md",
        "model-granular.md",
        "model-facade.md",
        "model-people.md",
    ],
)
def test_reference_pages_follow_the_code(name: str) -> None:
    page = (reference.REFERENCE / name).read_text(encoding="utf-8")
    assert page == reference.pages()[name], f"docs/reference/{name} is out of date; run python -m tools.reference"


def test_exit_codes_are_those_of_the_errors() -> None:
    page = (DOCS / "reference" / "exit-codes.md").read_text(encoding="utf-8")
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    kinds = [it for _, it in inspect.getmembers(errors, inspect.isclass) if issubclass(it, errors.CondinstError)]
    assert {kind.exit_code for kind in kinds} < codes
    assert all(kind.__name__ in page for kind in (errors.CondinstError, errors.UsageError, errors.ModelError))


def test_every_setting_has_a_meaning() -> None:
    missing = [
        (model.__name__, name)
        for _, model in reference.sections(Config, "")
        for name, field in model.model_fields.items()
        if not reference.is_section(field.default)
        and not reference.setting_comments(inspect.getsource(model)).get(name, "").endswith(".")
    ]
    assert not missing


def test_comments_become_the_meaning_of_settings() -> None:
    source = "class A:\n    # above\n    # it\n    x: int = 1\n    y: int = 2  # beside\n    z: int = 3\n"
    assert reference.setting_comments(source) == {"x": "above it", "y": "beside", "z": ""}

"""Every package folder says its duty in one line, and no folder of benchmarks grows past a dozen files."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = sorted(path.parent for top in (ROOT / "src", ROOT / "benchmarks") for path in top.rglob("__init__.py"))


@pytest.mark.parametrize("folder", PACKAGES, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_package_says_its_duty(folder: Path) -> None:
    source = (folder / "__init__.py").read_text(encoding="utf-8")
    first = (ast.get_docstring(ast.parse(source)) or "").splitlines()[:1]
    assert first, f"{folder}/__init__.py has no docstring"
    assert first[0].endswith((".", ";")), first
    assert len(first[0]) > 20


def test_every_folder_of_python_files_is_a_package() -> None:
    folders = {path.parent for top in ("src/condinst", "benchmarks") for path in (ROOT / top).rglob("*.py")}
    assert sorted(folders) == [folder for folder in PACKAGES if folder in folders]


@pytest.mark.parametrize("folder", [path for path in PACKAGES if "benchmarks" in path.parts], ids=lambda it: it.name)
def test_benchmarks_stay_small_folders(folder: Path) -> None:
    assert len(list(folder.glob("*.py"))) <= 12

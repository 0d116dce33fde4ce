"""Import levels: an import is absolute, and it imports from a lower level or from its own group."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "condinst"

# (level, group) of each module. Modules of one group may import each other.
FLOORS = {
    "errors": (0, "base"),
    "config": (0, "base"),
    "settings": (0, "base"),
    "allocator": (0, "base"),
    "files": (0, "base"),
    "lock": (0, "base"),
    "safe_yaml": (0, "base"),
    "strict_json": (0, "base"),
    "foreign": (0, "base"),
    "npz": (0, "base"),
    "web": (0, "base"),
    "memory": (0, "base"),
    "structures": (0, "base"),
    "recipes": (0, "base"),
    "ops": (1, "ops"),
    "model": (2, "model"),
    "data": (2, "data"),
    "sources": (2, "data"),
    "method": (3, "method"),
    "inference": (4, "inference"),
    "training": (4, "training"),
    "tracking": (5, "tracking"),
    "methods": (5, "methods"),
    "weights": (6, "weights"),
    "doctor": (6, "doctor"),
    "evaluation": (6, "evaluation"),
    "engine": (7, "composition"),
    "predictor": (7, "composition"),
    "hub": (7, "composition"),
    "api": (7, "composition"),
    "export": (7, "composition"),
    "video": (8, "video"),
    "many": (8, "many"),
    "serve": (8, "serve"),
    "ray": (9, "ray"),
    "cli": (9, "cli"),
    "__init__": (10, "top"),
    "__main__": (10, "top"),
}


def imports(source: str) -> list[tuple[int, str]]:
    """Line and dotted name of every import of the package in `source`; a relative one starts with a dot."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, name.name) for name in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            found.append((node.lineno, "." * node.level + (node.module or "")))
        elif isinstance(node, ast.ImportFrom) and node.module == "condinst":
            found += [(node.lineno, f"condinst.{name.name}") for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.lineno, node.module or ""))
    return [(line, name) for line, name in found if name.startswith(".") or name.split(".")[0] == "condinst"]


def offences(home: str, source: str) -> list[str]:
    """Return a line for each import in `source`, a file of the module or folder `home`, that breaks the rule."""
    floor, group = FLOORS[home]
    found = []
    for line, name in imports(source):
        if name.startswith("."):
            found.append(f"{line}: relative import {name}")
            continue
        target = [*name.split("."), "__init__"][1]
        if target == "__version__":  # a constant that every level may import
            continue
        if target not in FLOORS:
            found.append(f"{line}: {name} has no level")
        elif FLOORS[target][1] != group and FLOORS[target][0] >= floor:
            found.append(f"{line}: {home} (level {floor}) imports {target} (level {FLOORS[target][0]})")
    return found


def home_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_file_has_a_floor() -> None:
    unknown = [str(path) for path in PACKAGE.rglob("*.py") if home_of(path) not in FLOORS]
    assert not unknown


def test_no_import_goes_uphill() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 20
    found = [
        f"{path.relative_to(PACKAGE)}:{text}" for path in files for text in offences(home_of(path), path.read_text())
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("home", "source"),
    [
        ("ops", "from condinst.config import Config"),
        ("data", "from condinst.data.sample import Sample"),
        ("inference", "import condinst.model.condinst"),
        ("recipes", "from condinst.config import Config"),
        ("engine", "from condinst.predictor import Predictor"),
        ("engine", "from condinst.evaluation.evaluate import evaluate"),
        ("cli", "from condinst import __version__"),
        ("__init__", "from condinst.predictor import Predictor"),
        ("config", "import torch\nfrom pathlib import Path"),
    ],
)
def test_allowed_imports(home: str, source: str) -> None:
    assert offences(home, source) == []


@pytest.mark.parametrize(
    ("home", "source"),
    [
        ("ops", "from condinst.model.pyramids.fpn import FPN"),
        ("model", "from condinst.data.formats.coco.read import read_coco"),
        ("data", "import condinst.model"),
        ("inference", "from condinst.training.targets import assign"),
        ("training", "from condinst.weights.folder import load_model"),
        ("inference", "from condinst import weights"),
        ("predictor", "def late():\n    from condinst.cli.main import main"),
        ("engine", "from condinst import Predictor"),
        ("evaluation", "from condinst.predictor import Predictor"),
        ("doctor", "from condinst.evaluation.evaluate import evaluate"),
        ("model", "from .fpn import FPN"),
        ("model", "from . import fpn"),
        ("serve", "from condinst.cli.main import main"),
        ("engine", "import condinst"),
    ],
)
def test_offences_are_seen(home: str, source: str) -> None:
    assert len(offences(home, source)) == 1


@pytest.mark.parametrize("module", ["condinst", "condinst.cli.main"])
def test_light_imports(module: str) -> None:
    """`import condinst` and `condinst --help` must not import torch, which takes seconds."""
    heavy = (
        "{'torch', 'torchvision', 'timm', 'accelerate', 'pandas', 'supervision', 'matplotlib', "
        "'fastapi', 'starlette', 'uvicorn', 'prometheus_client', 'ray', 'pyarrow', 'onnxruntime', 'openvino'}"
    )
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"

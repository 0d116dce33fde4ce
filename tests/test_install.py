"""condinst installs from its wheel and its source archive, and nothing in it needs a module that Windows lacks."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

import pytest

from condinst import __version__

ROOT = Path(__file__).parent.parent
POSIX_ONLY = {"resource", "fcntl", "pwd", "grp", "termios", "tty", "pty", "posix", "syslog", "crypt"}
POSIX_NAMES = {
    "os": {"fork", "forkpty", "getuid", "geteuid", "killpg", "setsid", "getpgid", "uname", "nice", "mkfifo", "sysconf"},
    "signal": {"SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "alarm", "setitimer", "SIGCHLD"},
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel and the source archive, by ending."""
    if subprocess.run([sys.executable, "-c", "import hatchling"], check=False, capture_output=True).returncode:
        pytest.skip("hatchling, which builds the wheel, is not installed")
    folder = tmp_path_factory.mktemp("dist")
    line = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(line, cwd=ROOT, check=True, capture_output=True)
    return {path.suffix: path for path in folder.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".whl", ".gz"])
def test_installs_into_an_empty_environment(ending: str, built: dict[str, Path], tmp_path: Path) -> None:
    """Dependencies are those of this interpreter, by a .pth file that comes after the installed package."""
    assert built[ending].stat().st_size < 35_000_000
    archive = built[ending] if ending == ".whl" else wheel_of(built[ending], tmp_path)
    venv.create(tmp_path / "venv", with_pip=False)
    scripts = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    packages = next((tmp_path / "venv").glob("**/site-packages"))
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(scripts / "python"), "install", *options, str(archive)],
        check=True,
        capture_output=True,
        text=True,
    )
    shared = [path for path in sys.path if path.endswith("site-packages")] or [sysconfig.get_paths()["purelib"]]
    (packages / "shared.pth").write_text("\n".join(shared))
    for line in (["condinst", "--version"], ["python", "-m", "condinst", "--version"]):
        done = subprocess.run([scripts / line[0], *line[1:]], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.stdout.strip() == f"condinst {__version__}", done.stderr
    facts = (
        "import condinst, importlib.metadata as m, pathlib; here = pathlib.Path(condinst.__file__).parent; "
        "print(here); print((here / 'py.typed').is_file(), (here / 'zoo/nuclei/model.safetensors').is_file(), "
        "(here / 'recipes/small.yaml').is_file()); "
        "print(m.version('condinst'), m.metadata('condinst')['License-Expression'])"
    )
    done = subprocess.run([scripts / "python", "-c", facts], cwd=tmp_path, capture_output=True, text=True, check=False)
    where, inside, said = done.stdout.splitlines()
    assert Path(where).is_relative_to(packages)
    assert (inside, said) == ("True True True", f"{__version__} Apache-2.0")


def wheel_of(archive: Path, folder: Path) -> Path:
    """What pip does with a source archive: unpack it and build a wheel from that alone."""
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    (source,) = folder.glob("condinst-*")
    line = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
    subprocess.run(line, cwd=source, check=True, capture_output=True)
    return next((folder / "dist").glob("*.whl"))


def test_no_module_that_windows_lacks() -> None:
    found = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [f"{path.name}: import {name}" for name in names if name.split(".")[0] in POSIX_ONLY]
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                lacking = node.attr in POSIX_NAMES.get(node.value.id, ())
                found += [f"{path.name}:{node.lineno}: {node.value.id}.{node.attr}"] * lacking
    assert found == ["memory.py: import resource"]  # inside a function, after it has returned on Windows


INSTRUCTIONS = {"FROM", "RUN", "COPY", "WORKDIR", "USER", "ENTRYPOINT", "CMD", "ARG"}


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cuda"])
def test_docker_files(name: str) -> None:
    """They copy what is there and is not ignored, pin their base, leave root, and start the command."""
    lines = re.sub(r"\\\n\s*", " ", (ROOT / name).read_text(encoding="utf-8")).splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    assert {step for step, _ in steps} <= INSTRUCTIONS
    assert re.fullmatch(r"[\w/.-]+:[\w.-]+", dict(steps)["FROM"])
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for copied in (words.split()[:-1] for step, words in steps if step == "COPY"):
        assert all((ROOT / path).exists() and f"!{path}" in ignored for path in copied)
    assert all("--no-cache-dir" in words for step, words in steps if step == "RUN" and "pip install" in words)
    assert dict(steps)["USER"] not in ("root", "0")
    assert dict(steps)["ENTRYPOINT"] == '["condinst"]'
    assert [step for step, _ in steps].index("USER") < [step for step, _ in steps].index("ENTRYPOINT")

"""The command as a whole: quick help, exit codes, interruption, the list of models."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

import condinst
from condinst.web import SILENCE_SECONDS
from condinst.weights import names
from condinst.weights.catalogue import PUBLISHED

Run = Callable[..., Result]
SOURCE = Path(__file__).parent.parent.parent / "src"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(SOURCE)}


def python(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["predict", "--help"],
        ["train", "--help"],
        ["val", "-h"],
        ["info", "-h"],
        ["convert", "-h"],
    ],
)
def test_help_loads_nothing_slow(words: list[str]) -> None:
    code = f"""
import sys
from condinst.cli.main import app
try:
    app({words})
except SystemExit as stop:
    assert stop.code == 0, stop.code
slow = {{"torch", "torchvision", "timm", "numpy", "PIL", "hotcoco"}} & set(sys.modules)
assert not slow, slow
"""
    assert python(code)


def test_the_list_of_commands_loads_no_settings() -> None:
    """pydantic takes as long to import as all else that `condinst --help` needs."""
    code = """
import sys
from condinst.cli.main import app
try:
    app(["--help"])
except SystemExit as stop:
    assert stop.code == 0, stop.code
assert "pydantic" not in sys.modules
"""
    assert python(code)


def test_version(run: Run) -> None:
    outcome = run("--version")
    assert (outcome.exit_code, outcome.stdout) == (0, f"condinst {condinst.__version__}\n")


def test_help_names_every_exit_code_and_verb(run: Run) -> None:
    text = " ".join(run("--help").stdout.split())
    for word in ("predict", "val", "train", "models", "info", "convert", "0 ok", "2 wrong usage", "130 interrupted"):
        assert word in text


@pytest.mark.parametrize("words", [(), ("prodict",), ("--colour",)])
def test_wrong_usage(run: Run, words: tuple[str, ...]) -> None:
    assert run(*words).exit_code == 2


def test_interruption_is_130_without_traceback(model_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/never.png"
        command = [sys.executable, "-m", "condinst", "predict", address, "--json", "--model", str(model_folder)]
        process = subprocess.Popen(
            command,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a background shell may have it ignored
        )
        with server.accept()[0]:  # the command now waits for an answer
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=SILENCE_SECONDS - 1)  # it does not wait for the server
    assert process.returncode == 130
    assert (output, errors) == ("", "stopped after 0 of 1 images\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("words", [["models"], ["data", "check", "nowhere", "--json"]])
def test_a_full_standard_output_is_one_line(words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "condinst", *words]
        done = subprocess.run(command, env=ENVIRONMENT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: standard output: cannot be written (No space left on device); free some space\n"


def test_models_lists_what_is_shipped(run: Run, model_folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    shutil.copytree(model_folder, tmp_path / "tiny")
    monkeypatch.setattr(names, "ZOO", tmp_path)
    monkeypatch.setattr(names.shipped_names, "__defaults__", (tmp_path,))
    outcome = run("models")
    assert outcome.exit_code == 0, outcome.output
    for word in ("tiny", "nucleus", "CC0", "0.10", "0.20"):
        assert word in outcome.stdout
    listed = json.loads(run("models", "--json").stdout)
    assert listed["tiny"]["licence"] == "CC0"
    assert len(listed) == 1 + len(PUBLISHED)
    assert listed["adelaidet/CondInst_MS_R_50_3x"]["mask AP"].startswith("0.375 on COCO val2017")
    for word in ("adelaidet/BoxInst_MS_R_101_BiFPN_dcni3_3x", "non-commercial", "0.348", "mmdetection/boxinst"):
        assert word in outcome.stdout


def test_listing_the_models_loads_nothing_slow() -> None:
    code = """
import sys
from condinst.cli.models import models
models(json=True)
slow = {"torch", "torchvision", "timm", "huggingface_hub"} & set(sys.modules)
assert not slow, slow
"""
    assert "adelaidet/CondInst_MS_R_50_3x" in python(code)


def test_ctrl_c_while_python_still_imports() -> None:
    """One line, as later. The signal comes when the first module of the command line is imported."""
    code = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts its background jobs without it
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "condinst.cli.main":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
from condinst.__main__ import main
main()
"""
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "interrupted\n")

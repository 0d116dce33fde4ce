"""Nothing that comes from a file name, a folder, a server or a mistyped word controls the terminal."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import Result

from condinst.cli.main import app
from condinst.cli.terminal.elsewhere import ACCEPTED
from condinst.cli.terminal.output import print_table
from condinst.cli.terminal.usage import EXAMPLES, _as_meant

FILE = next((Path(__file__).parent.parent / "data" / "nuclei" / "images").glob("*.png"))
EVIL = "\x1b[2J\x1b]0;owned\x07\n[red]error: all is lost[/red]\u202e\x9b31m"
Run = Callable[..., Result]


def harmless(text: str) -> bool:
    return not any(char in text for char in "\x1b\x07\x9b\u202e")


def test_names_and_folders(run: Run, model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / EVIL.replace("/", "")
    try:
        folder.mkdir()
        shutil.copy(FILE, folder / f"{EVIL[:20]}.png")
    except OSError:
        pytest.skip("the file system refuses such names")
    (folder / f"bad{EVIL[:20]}.png").write_bytes(b"no picture")
    outcome = run("predict", folder, "--model", model_folder, "--device", "cpu", "--out", folder / "out\x1b[31m")
    assert outcome.exit_code == 3
    assert harmless(outcome.output), repr(outcome.output)
    assert "left out: " in outcome.output
    assert not [line for line in outcome.output.splitlines() if line.startswith("error: all")]
    assert not any(not name.isprintable() for name in os.listdir(folder / "out\x1b[31m"))


@pytest.mark.parametrize(
    "words",
    [
        ("predict", EVIL),
        ("predict", "x.png", "--conf", EVIL),
        ("predict", "x.png", f"--{EVIL}"),
        ("predict", "x.png", "--model", EVIL),
        ("predict", "x.png", "--device", EVIL),
        ("predict", "x.png", "--nms", EVIL),
        (EVIL,),
        ("info", EVIL),
        ("val", "--data", EVIL),
        ("train", "--data", EVIL),
        ("train", EVIL),
        ("data", "check", EVIL),
        ("convert", EVIL, "out"),
    ],
)
def test_mistyped_words(run: Run, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONDINST_OFFLINE", "1")
    outcome = run(*words)
    assert outcome.exit_code in (1, 2, 3, 4)
    assert harmless(outcome.output), repr(outcome.output)
    assert "Traceback" not in outcome.output


def test_brackets_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("[red]a[/red]", "\x1b[31mb"), [("[bold]c[/bold]", "[/]")])
    printed = capsys.readouterr().out
    assert harmless(printed)
    for word in ("[red]a[/red]", "[bold]c[/bold]", "[/]"):
        assert word in printed


def test_suggestions_are_alike(run: Run) -> None:
    assert "--max-size" in run("predict", "x.png", "--max-sise", "3").output
    assert "did you mean" not in run("predict", "x.png", "--frobnicate", "red").output


@pytest.mark.parametrize("command", EXAMPLES)
def test_a_call_without_arguments_shows_an_example(run: Run, command: str) -> None:
    outcome = run(*command.split())
    assert outcome.exit_code == 2
    assert f"for example: condinst {command} {EXAMPLES[command]}" in outcome.stderr.replace("\n", " ")


def test_a_wrong_choice_names_the_choices(run: Run) -> None:
    printed = " ".join(run("predict", "x.png", "--overlay-format", "gif").output.replace("│", " ").split())
    assert "Invalid value for '--overlay-format': 'gif' is not one of 'jpg', 'png', 'webp'." in printed


@pytest.mark.parametrize("command", EXAMPLES)
def test_the_options_in_an_example_exist(command: str) -> None:
    verb = get_command(app)
    for name in command.split():
        verb = verb.commands[name]  # type: ignore[attr-defined]
    known = {name for param in verb.params for name in param.opts}
    assert {word for word in EXAMPLES[command].split() if word.startswith("--")} <= known


@pytest.mark.parametrize("group", [(), ("data",)])
def test_a_group_without_a_command_shows_its_help_and_an_example(run: Run, group: tuple[str, ...]) -> None:
    outcome = run(*group)
    assert outcome.exit_code == 2
    assert "Example: condinst " in " ".join(outcome.output.split())


def test_help_joins_the_lines_of_a_paragraph(run: Run) -> None:
    for line in run("data", "split", "--help").output.splitlines():
        assert line.strip() != "trained on the train part has therefore"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["--imgsz", "64"], ["--size", "64"]),
        (["--imgsz=64"], ["--size=64"]),
        (["--save-txt"], ["--save", "yolo"]),
        (["--iou", "0.5", "--classes", "cat"], ["--iou", "0.5", "--classes", "cat"]),
        (["x.png", "--max-det=3"], ["x.png", "--max-detections=3"]),
        (["--imgsz64"], ["--imgsz64"]),
    ],
)
def test_options_as_ultralytics_spells_them(given: list[str], meant: list[str]) -> None:
    assert [word for each in given for word in _as_meant(each, ACCEPTED)] == meant


def test_these_spellings_reach_the_settings(run: Run, model_folder: Path) -> None:
    words = ("predict", FILE, "--model", model_folder, "--device", "cpu", "--json")
    as_ultralytics = run(*words, "--imgsz", 48, "--max-det", 2, "--iou", 0.3)
    assert as_ultralytics.stdout == run(*words, "--size", 48, "--max-detections", 2, "--iou", 0.3).stdout
    assert as_ultralytics.exit_code == 0

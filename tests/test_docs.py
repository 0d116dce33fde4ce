"""Every command and code block of the README and the documentation works as written.

The blocks of a page run in their order, in one folder that looks like a clone and holds a reader's files (my_data,
my_photo.jpg, runs/my_model …). Two things differ from a reader's run: commands of condinst run inside this process, and
a training is cut to one small step. `<!-- not run: reason -->` before a block says why it cannot run; its options and
settings are still compared with the command line. `<!-- exit code: N -->` states another exit code than 0.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import typer
from typer.testing import CliRunner

from condinst.cli.main import app
from condinst.config import Config
from condinst.errors import CondinstError
from condinst.model.condinst import CondInst
from condinst.recipes import load_recipe
from condinst.weights.folder import save_model

ROOT = Path(__file__).parent.parent
DATA = ROOT / "tests" / "data"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")])
RUN = {"sh", "python"}  # languages of blocks that do something
FENCE = re.compile(
    r"(?:<!-- (?P<mark>not run|exit code): (?P<said>[^>]+) -->\s*)?"
    r"(?:<!-- [\w-]+: written by [^>]+ -->(?:(?!<!-- end of)[^`])*?)?"
    r"^(?P<tab> *)```(?P<language>\w+)?[^\n]*\n(?P<text>.*?)^(?P=tab)```",
    re.MULTILINE | re.DOTALL,
)
# settings that make any training short; the reader's own stand before them and are checked
SMALL = [
    "train.iterations=1",
    "train.batch_size=2",
    "train.accumulate=1",
    "train.workers=0",
    "train.validate_every=0",
    "train.checkpoint_every=1",
    "train.patience=0",
    "augment.shorter=[128]",
    "augment.longer=192",
    "augment.crop=0",
    "input.shorter=128",
    "input.longer=192",
]
SHELL = re.compile(r"[|&;$<>]|^\w+=")
LAUNCHER = re.compile(r"^(\w+=\w+ )?(accelerate launch|python -m torch\.distributed\.run) .*-m condinst ")


class Block(NamedTuple):
    """One fenced block. skip: why it does not run, "" if it does. code: the exit code it should end with."""

    page: Path
    language: str
    text: str
    skip: str
    code: int


def blocks_of(page: Path) -> list[Block]:
    found = []
    for each in FENCE.finditer(page.read_text(encoding="utf-8")):
        mark, said = each["mark"], each["said"] or ""
        skip, code = (said if mark == "not run" else ""), (int(said) if mark == "exit code" else 0)
        found.append(Block(page, each["language"] or "", each["text"], skip, code))
    return found


BLOCKS = [block for page in PAGES for block in blocks_of(page) if block.language in RUN]
TESTED = sorted({block.page for block in BLOCKS if not block.skip})
MARKED = [block for block in BLOCKS if block.skip]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def commands(block: Block) -> list[str]:
    return [line for line in block.text.replace("\\\n", " ").splitlines() if line.strip() and line[0] != "#"]


@pytest.fixture(scope="session")
def own_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader's run leaves: a model folder, here of the shipped nuclei model's settings and random weights."""
    config = Config.from_yaml(ROOT / "src" / "condinst" / "zoo" / "nuclei" / "config.yaml")
    folder = tmp_path_factory.mktemp("own") / "my_model"
    torch.manual_seed(0)
    save_model(CondInst(config.model), config, folder)
    return folder


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like a clone, with a reader's own files."""
    for name in ("examples", "tests", "src", "docs", "benchmarks", "tools", "mkdocs.yml"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(DATA / "nuclei", tmp_path / "my_data")
    (tmp_path / "my_photos").mkdir()
    for file in sorted((ROOT / "examples" / "images" / "nuclei").glob("stained.png")):
        shutil.copy(file, tmp_path / "my_photos")
    shutil.copy(next((ROOT / "examples" / "images" / "facade").glob("*.jpg")), tmp_path / "my_photo.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("NO_COLOR", "1")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", TESTED, ids=name_of)
def test_blocks_run_as_written(page: Path, clone: Path, own_model: Path) -> None:
    for block in blocks_of(page):
        if block.language == "python" and not block.skip:
            exec(compile(block.text, name_of(page), "exec"), {"__name__": "__main__"})
        elif block.language == "sh" and not block.skip:
            for command in commands(block):
                run_command(command, block.code, own_model)


def run_command(command: str, code: int, own_model: Path) -> None:
    """Run one line and compare its exit code."""
    words = shlex.split(command)
    if words[0] != "condinst" or SHELL.search(command):
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=240)
        assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"
        return
    words = words[1:]
    if words[0] == "train":
        words = short(words)
    elif "runs/my_model" in words and not Path("runs/my_model").exists():
        shutil.copytree(own_model, "runs/my_model")
    result = CliRunner().invoke(app, words)
    assert result.exit_code == code, f"{command}\n{result.output}\n{result.exception!r}"


def short(words: list[str]) -> list[str]:
    """A training of one step that needs no network; its folder is new unless it resumes."""
    check_settings(words)
    words = [word for word in words if not word.startswith("train.epochs=")]  # they become iterations
    out = Path(words[words.index("--out") + 1] if "--out" in words else "runs/my_data")
    if "--resume" in words and not out.exists():
        first = [word for word in words if word != "--resume"]
        assert CliRunner().invoke(app, [*first, *SMALL, "train.precision=no", "train.init=none"]).exit_code == 0
    elif "--resume" not in words and out.exists():
        shutil.rmtree(out)
    return [*words, *SMALL, "train.precision=no", *([] if "--from" in words else ["train.init=none"])]


def check_settings(words: list[str]) -> None:
    """The settings of a train command are valid for its recipe."""
    recipe = load_recipe(words[words.index("--recipe") + 1] if "--recipe" in words else "small")
    recipe.with_overrides([word for word in words if "=" in word and not word.startswith("--")])


@pytest.mark.parametrize(
    "command", sorted({line for block in MARKED if block.language == "sh" for line in commands(block)})
)
def test_command_that_is_not_run_is_valid(command: str) -> None:
    """Options, settings, programs and make targets exist."""
    if command.startswith("make "):
        shown = subprocess.run(["make", "-n", *command.split()[1:]], cwd=ROOT, capture_output=True, check=False)
        assert shown.returncode == 0, shown.stderr
    elif program := re.match(r"python -m ((?:benchmarks|tools)\.[\w.]+)", command):
        place = ROOT / program[1].replace(".", "/")
        assert place.with_suffix(".py").is_file() or (place / "__main__.py").is_file()
    elif program := re.match(r"python (examples/\S+\.py)", command):
        assert (ROOT / program[1]).is_file()
    elif command.startswith("condinst ") or LAUNCHER.match(command):
        words = shlex.split(LAUNCHER.sub("condinst ", command))[1:]
        check_options(words)
        if words[0] == "train":
            check_settings(words)
    else:
        assert re.match(r"(pip|uv|uvx|docker|git clone|python -m venv|\.) ?", command), command


def check_options(words: list[str]) -> None:
    """Every option of a command line is one of the command's."""
    group = typer.main.get_command(app)
    while hasattr(group, "commands") and not words[0].startswith("-"):
        group, words = group.commands[words[0]], words[1:]
    known = {option for parameter in group.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert [word for word in words if word.startswith("--") and word not in known] == []


def test_blocks_are_counted() -> None:
    """Most blocks run; a mark needs its reason."""
    ran = len(BLOCKS) - len(MARKED)
    print(f"{ran} blocks run, {len(MARKED)} are marked")
    assert ran >= 30
    assert ran > len(MARKED)
    assert all(len(block.skip) > 10 for block in MARKED)


def test_the_marks_are_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- not run: needs a network -->\n```sh\ncondinst predict --wrong\n```\n\n"
        "<!-- exit code: 3 -->\n```sh\ncondinst data check x\n```\n\n```python\nprint(1)\n```\n\n```text\nx\n```\n"
    )
    first, second, third, fourth = blocks_of(page)
    assert (first.skip, second.code, third.language, fourth.language) == ("needs a network", 3, "python", "text")
    with pytest.raises(AssertionError):
        check_options(shlex.split(commands(first)[0])[1:])
    with pytest.raises(CondinstError):
        check_settings(["train", "train.itreations=3"])


def test_settings_named_in_the_pages_exist() -> None:
    named = {
        (page, key)
        for page in PAGES
        for key in re.findall(
            r"`((?:train|model|input|detect|targets|loss|augment)\.(?!safetensors|json|onnx|xml|bin|pt2|pte)[a-z_0-9.]+)",
            page.read_text("utf-8"),
        )
    }
    assert len(named) > 60
    for page, key in named:
        place = load_recipe("nuclei").model_dump()
        for part in key.split("."):
            assert part in place, f"{name_of(page)} names {key}, which is no setting"
            place = place[part]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [t for t in targets if not t.startswith("http") and not (page.parent / t).exists()] == []
    assert page.parent == ROOT or "docs" not in page.parts or [t for t in targets if t.startswith("../../")] == []

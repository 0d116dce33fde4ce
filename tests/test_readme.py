"""What the README and the training guide tell a stranger to type works as written.

Commands on files of this repository are run. Commands on the reader's own files (my_…) have their options and settings
checked against the command line and the configuration.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from condinst.recipes import load_recipe

ROOT = Path(__file__).parent.parent
GUIDES = (
    ROOT / "README.md",
    *(ROOT / "docs" / "how-to" / f"{name}.md" for name in ("train", "augmentation", "measure")),
)
# in several processes
LAUNCHED = re.compile(
    r"(ACCELERATE_USE_CPU=true )?(accelerate launch|python -m torch\.distributed\.run) .*-m condinst train "
)


def blocks(path: Path, language: str) -> list[str]:
    """The fenced code blocks of a Markdown file in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    return [line for guide in GUIDES for block in blocks(guide, "sh") for line in block.splitlines() if line]


def is_readers_own(command: str) -> bool:
    return "my_" in command


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run with this interpreter's scripts first on the path, in `folder`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONIOENCODING": "utf-8", "COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=280)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """An empty folder that looks like a clone, so that outputs do not land in the repository."""
    for name in ("examples", "tests", "src"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("condinst") and not is_readers_own(c)])
def test_command_runs_as_written(command: str, clone: Path) -> None:
    done = run(["bash", "-c", command], clone)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    words = shlex.split(command)
    if "--out" in words:
        out = clone / words[words.index("--out") + 1]
        assert (out / "results.json").stat().st_size > 0
        assert len(list(out.glob("*.png"))) == len(list((clone / words[2]).glob("*.png")))


@pytest.mark.parametrize("command", [c for c in commands() if is_readers_own(c)])
def test_command_on_own_files_has_valid_options(command: str, clone: Path) -> None:
    words = shlex.split(
        command.split("-m condinst")[-1] if "-m condinst" in command else command.removeprefix("condinst")
    )
    shown = run(["condinst", words[0], "--help"], clone)
    assert shown.returncode == 0, shown.stderr
    options = [word for word in words if word.startswith("--")]
    assert [option for option in options if option not in re.findall(r"--[a-z-]+", shown.stdout)] == []
    if words[0] == "train":
        recipe = load_recipe(words[words.index("--recipe") + 1] if "--recipe" in words else "small")
        recipe.with_overrides([word for word in words if "=" in word and not word.startswith("--")])


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("make")])
def test_make_target_exists(command: str) -> None:
    shown = run(["make", "-n", *command.split()[1:]], ROOT)
    assert shown.returncode == 0, shown.stderr


def test_every_command_is_of_a_known_kind() -> None:
    assert [c for c in commands() if not re.match(r"condinst |make ", c) and not LAUNCHED.match(c)] == []
    assert sum(c.startswith("make") for c in commands()) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("guide", "made"), [("README.md", "stained_overlay.png"), ("docs/how-to/measure.md", "report.html")]
)
def test_python_snippet(guide: str, made: str, clone: Path) -> None:
    (snippet,) = blocks(ROOT / guide, "python")
    done = run([sys.executable, "-c", snippet], clone)
    assert done.returncode == 0, done.stderr
    assert (clone / made).stat().st_size > 0


def test_settings_named_in_the_guide_exist() -> None:
    config = load_recipe("nuclei").model_dump()
    named = re.findall(
        r"`((?:train|model|input|detect|targets|loss|augment)\.(?!safetensors)[a-z_.]+)",
        GUIDES[1].read_text(encoding="utf-8"),
    )
    assert len(named) > 15
    for key in named:
        place = config
        for part in key.split("."):
            assert part in place, f"docs/how-to/train.md names {key}, which is no setting"
            place = place[part]


@pytest.mark.parametrize(
    "page", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")]), ids=lambda p: p.name
)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [t for t in targets if not t.startswith("http") and not (page.parent / t).exists()] == []

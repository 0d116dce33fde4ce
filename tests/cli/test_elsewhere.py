"""Options and settings as other programs call them: the error names what is meant here, and it exists."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import Result

from condinst.cli.main import app
from condinst.cli.terminal.elsewhere import ACCEPTED, ACCEPTED_SETTINGS, ADVICE
from condinst.config import Config
from condinst.engine.planning.settings import base_settings, count_iterations, leaves, override
from condinst.engine.run import Request
from condinst.errors import UsageError
from condinst.settings.elsewhere import ELSEWHERE as SETTINGS

Run = Callable[..., Result]


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("train", "--data", "x", "--optimizer", "SGD"), "did you mean train.optimizer=VALUE?"),
        (("train", "--data", "x", "--classes", "3"), "training uses the classes of the data"),
        (("predict", "x.png", "--project", "out"), "did you mean --out?"),
        (("val", "--data", "x", "--iou", "0.5"), "detect.nms_threshold"),
    ],
)
def test_options(run: Run, words: tuple[str, ...], meant: str) -> None:
    outcome = run(*words)
    assert outcome.exit_code == 2
    assert meant in re.sub(r"[\s│]+", " ", outcome.output)


@pytest.mark.parametrize(
    ("words", "setting"),
    [
        (("--epochs", "5"), "train.epochs=5"),
        (("--epochs=5",), "train.epochs=5"),
        (("--imgsz", "640"), "input.shorter=640"),
        (("--batch", "4"), "train.batch_size=4"),
        (("--batch-size", "4"), "train.batch_size=4"),
        (("--batch_size", "4"), "train.batch_size=4"),
        (("--lr0", "0.1"), "train.lr=0.1"),
    ],
)
def test_train_accepts_options_of_other_programs(
    run: Run, words: tuple[str, ...], setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides: list[tuple[str, ...]] = []

    def note(request: Request, *_: object) -> None:
        overrides.append(request.settings)
        raise UsageError("stopped here")

    monkeypatch.setattr("condinst.engine.run.run", note)
    outcome = run("train", "--data", "x", *words, "train.workers=0")
    assert overrides == [(setting, "train.workers=0")], outcome.output
    assert f"note: {' '.join(words).replace('=', ' ')} means {setting}" in outcome.stderr


@pytest.mark.parametrize("words", [("--epochs",), ("--epochs", "--data", "x"), ("--epochs=",)])
def test_such_an_option_needs_a_value(run: Run, words: tuple[str, ...]) -> None:
    outcome = run("train", *words)
    assert outcome.exit_code == 2
    assert "--epochs needs a value; write train.epochs=VALUE" in outcome.stderr


def test_what_is_meant_exists() -> None:
    settings = {key for key, _ in leaves(Config().model_dump())}
    commands = get_command(app).commands  # type: ignore[attr-defined]
    for verb, names in ADVICE.items():
        known = {name for param in commands[verb].params for name in param.opts}
        for name, meant in names.items():
            assert ACCEPTED.get(name, ("",))[0] not in known, (verb, name)  # the advice would never be printed
            if meant.startswith("--"):
                assert re.split("[ ,]", meant)[0] in known, (verb, name)
            elif "=" in meant and " " not in meant:
                assert meant.partition("=")[0] in settings, (verb, name)
    train = {name for param in commands["train"].params for name in param.opts}
    for meant in SETTINGS.values():
        assert meant in settings | train
    assert set(ACCEPTED_SETTINGS.values()) <= settings
    assert not set(ACCEPTED_SETTINGS) & set(ADVICE["train"])


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("epochs=5", "train.epochs"),
        ("imgsz=640", "input.shorter"),
        ("train.imgsz=640", "input.shorter"),
        ("batch=4", "train.batch_size"),
        ("lr0=0.1", "train.lr"),
        ("iou=0.5", "detect.nms_threshold"),
    ],
)
def test_settings(text: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"did you mean {re.escape(meant)}\\?"):
        Config().with_overrides([text])


@pytest.mark.parametrize(
    ("epochs", "pictures", "batch", "accumulate", "iterations"),
    [(3, 100, 8, 1, 38), (3, 100, 4, 2, 38), (0.5, 100, 8, 1, 7), (0.001, 10, 8, 1, 1), (10, 8, 8, 1, 10)],
)
def test_epochs(epochs: float, pictures: int, batch: int, accumulate: int, iterations: int) -> None:
    words = [f"train.epochs={epochs}", f"train.batch_size={batch}", f"train.accumulate={accumulate}"]
    config = override(Config(), words)
    assert count_iterations(config, pictures).train.iterations == iterations
    assert count_iterations(Config(), pictures).train.iterations == Config().train.iterations


def test_the_length_that_is_given_wins(tmp_path: Path) -> None:
    """A recipe's epochs give way to the iterations of the command line; both in one command contradict each other."""
    (tmp_path / "mine.yaml").write_text("train: {epochs: 5}")
    recipe = str(tmp_path / "mine.yaml")
    assert base_settings(recipe, None, []).train.epochs == 5
    config = base_settings(recipe, None, ["train.iterations=7"])
    assert (config.train.epochs, config.train.iterations) == (None, 7)
    with pytest.raises(UsageError, match=r"train.epochs and train.iterations both set the length of the training"):
        base_settings(recipe, None, ["train.iterations=7", "train.epochs=2"])

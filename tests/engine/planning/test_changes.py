"""What a resumed run may be asked to do otherwise."""

from pathlib import Path

import pytest

from condinst.config import Config
from condinst.engine.planning.changes import compare_settings
from condinst.errors import UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text(Config().to_yaml())
    return tmp_path


def test_the_same_settings_need_no_words(folder: Path, tmp_path: Path) -> None:
    same = Config().with_overrides(["train.workers=0", "train.log_every=1", "about={data: other}"])
    assert compare_settings(folder, same, 5) == []
    assert compare_settings(tmp_path / "nothing", same, 5) == []


def test_what_can_be_followed_is_told(folder: Path) -> None:
    (line,) = compare_settings(folder, Config().with_overrides(["train.lr=0.5", "augment.shorter=[64]"]), 5)
    assert line.startswith("note: settings changed since the last start: ")
    assert "train.lr 0.01 → 0.5" in line
    assert "augment.shorter [640, " in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("model.fpn_channels=64", "model.fpn_channels 256 → 64"),
        ("model.classes=[pothole]", "model.classes"),
        ("train.optimizer=adamw", "train.optimizer 'sgd' → 'adamw'"),
        ("train.ema_decay=0.5", "train.ema_decay 0.0 → 0.5"),
        ("train.iterations=4", "the run in .* has already done 5; give at least 5"),
    ],
)
def test_what_cannot_is_refused(folder: Path, setting: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        compare_settings(folder, Config().with_overrides([setting]), 5)


def test_another_decay_of_an_average_is_no_obstacle(folder: Path) -> None:
    (folder / "config.yaml").write_text(Config().with_overrides(["train.ema_decay=0.9"]).to_yaml())
    (line,) = compare_settings(folder, Config().with_overrides(["train.ema_decay=0.8"]), 5)
    assert "train.ema_decay 0.9 → 0.8" in line


def test_a_file_that_has_lost_its_end_is_told(folder: Path) -> None:
    path = folder / "config.yaml"
    path.write_text(path.read_text().partition("  trackers:")[0])
    config = Config.from_yaml(path)
    (line,) = compare_settings(folder, config, 5)
    assert line.startswith(f"note: {path} has no train.trackers; condinst takes the defaults.")
    path.write_text("train: {lr: 0.1}")
    line, _ = compare_settings(folder, config, 5)
    assert "has no about, model" in line
    assert " more; condinst" in line

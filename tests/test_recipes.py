"""Every recipe that comes with the package can be built, and says what it is."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml

from condinst.config import Config
from condinst.errors import UsageError
from condinst.model.condinst import CondInst
from condinst.recipes import FOLDER, load_recipe, recipe_names


def test_names() -> None:
    assert "nuclei" in recipe_names()
    assert [f"{name}.yaml" for name in recipe_names()] == sorted(path.name for path in FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("name", recipe_names())
@torch.no_grad()
def test_builds(name: str) -> None:
    """The tensors that the head gives are those that the mask head reads."""
    config = load_recipe(name)
    settings = config.model.model_copy(update={"classes": ("one", "two", "three")})
    model = CondInst(settings).eval()
    output = model(torch.zeros(1, 3, 64, 64))
    inputs = settings.mask_branch.features + (0 if settings.mask_head.coordinates == "none" else 2)
    widths = [inputs, *[settings.mask_head.width] * (settings.mask_head.depth - 1), 1]
    count = sum(a * b + b for a, b in pairwise(widths))
    assert [level.shape[1] for level in output.head.filters] == [count] * 5
    assert [level.shape[1] for level in output.head.class_logits] == [3] * 5
    assert output.mask_features.shape == (1, settings.mask_branch.features, 8, 8)
    assert all(level.isfinite().all() for levels in output.head for level in levels)


@pytest.mark.parametrize("name", recipe_names())
def test_says_what_it_is(name: str) -> None:
    """Data, licence and the command, which names the recipe and no number that the file does not know."""
    config = load_recipe(name)
    assert f"--recipe {name}" in config.about["command"]
    assert config.about["data"]
    written = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    assert config == Config.from_dict(written)


def test_a_file_is_a_recipe(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("train: {iterations: 3}\n")
    assert load_recipe(str(path)).train.iterations == 3
    bare = tmp_path / "recipe"
    bare.write_text("train: {iterations: 4}\n")
    assert load_recipe(str(bare)).train.iterations == 4


def test_a_folder_named_like_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data for `nuclei` often lies in a folder `nuclei`."""
    (tmp_path / "nuclei").mkdir()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_recipe("nuclei") == Config.from_yaml(FOLDER / "nuclei.yaml")
    with pytest.raises(UsageError, match="recipe 'other': no such name or file"):
        load_recipe("other")


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="recipe 'nuclie': no such name or file; did you mean 'nuclei'"):
        load_recipe("nuclie")
    with pytest.raises(UsageError, match=r"there are: .*nuclei"):
        load_recipe("zzzz")
    with pytest.raises(UsageError, match="cannot be read"):
        load_recipe(str(tmp_path / "absent.yaml"))

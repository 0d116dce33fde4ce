"""The recipe of a shipped model has the settings that the model was trained with."""

from pathlib import Path
from typing import Any

import pytest

import condinst
from condinst.config import Config
from condinst.recipes import load_recipe

ZOO = Path(condinst.__file__).parent / "zoo"
# The first weights are a path on the command line. The others do not change what is learned.
NOTED = {"about", "model.classes", "input.seen", "train.init"}
FREE = NOTED | {"train.workers", "train.log_every", "train.checkpoint_every"}


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if name in FREE:
            continue
        found |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return found


@pytest.mark.parametrize("name", sorted(path.parent.name for path in ZOO.glob("*/config.yaml")))
def test_the_command_of_the_card_repeats_the_training(name: str) -> None:
    shipped = flat(Config.from_yaml(ZOO / name / "config.yaml").model_dump(mode="json"))
    recipe = flat(load_recipe(name).model_dump(mode="json"))
    assert {key: (shipped[key], value) for key, value in recipe.items() if shipped[key] != value} == {}

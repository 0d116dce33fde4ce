"""Named configurations. A recipe is a YAML file that says its expected scores, time and command."""

from __future__ import annotations

import difflib
from pathlib import Path

from condinst.config import Config
from condinst.errors import UsageError

FOLDER = Path(__file__).parent


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_recipe(name_or_path: str) -> Config:
    """A recipe by name or from a YAML file, in this order; raises UsageError, with the nearest name, if there is none.

    A file that shares its name with a shipped recipe is reached as `./name`.
    """
    if name_or_path in recipe_names():  # first, as a folder of data often bears the recipe's name
        return Config.from_yaml(FOLDER / f"{name_or_path}.yaml")
    path = Path(name_or_path)
    if path.suffix in {".yaml", ".yml"} or path.is_file():
        return Config.from_yaml(path)
    near = difflib.get_close_matches(name_or_path, recipe_names(), 1)
    hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(recipe_names())}"
    raise UsageError(f"recipe '{name_or_path}': no such name or file; {hint}")

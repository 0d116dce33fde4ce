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
    """A recipe by name or from a YAML file; raises UsageError, with the nearest name, if there is none."""
    path = Path(name_or_path)
    if path.suffix in {".yaml", ".yml"} or path.exists():
        return Config.from_yaml(path)
    if name_or_path not in recipe_names():
        near = difflib.get_close_matches(name_or_path, recipe_names(), 1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(recipe_names())}"
        raise UsageError(f"recipe '{name_or_path}': no such name or file; {hint}")
    return Config.from_yaml(FOLDER / f"{name_or_path}.yaml")

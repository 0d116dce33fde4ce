"""Recipes: named configurations in YAML files, with their expected scores and their command.

A recipe holds the settings that differ from the defaults. With `base: NAME|FILE` it holds those that differ from the
recipe of that name or file. A saved model stores the complete configuration, without a base.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any

from condinst.config import Config
from condinst.errors import UsageError
from condinst.settings.kinds import show
from condinst.settings.reading import read_settings

FOLDER = Path(__file__).parent
MOST_BASES = 20  # the longest chain of recipes


def recipe_names() -> list[str]:
    """The names of the recipes that come with the package, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_recipe(name_or_path: str) -> Config:
    """Load a shipped recipe by its name, or a recipe from a YAML file.

    Example: `load_recipe("nuclei")` or `load_recipe("my_recipe.yaml")`. A shipped recipe comes first; write `./nuclei`
    for a file of the same name. Raises UsageError, with the most similar name, if there is no such recipe, and if the
    file is not valid.
    """
    path = _find(name_or_path, Path())
    return Config.from_dict(_resolve(path, ()), str(path))


def _find(name_or_path: str, folder: Path) -> Path:
    """The file of a recipe. A relative path starts at `folder`."""
    if name_or_path in recipe_names():  # first, because a data folder often has the same name
        return FOLDER / f"{name_or_path}.yaml"
    path = folder / name_or_path
    if path.suffix in {".yaml", ".yml"} or os.path.isfile(path):  # Path.is_file fails on a name that is too long
        return path
    near = difflib.get_close_matches(name_or_path, recipe_names(), 1)
    hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(recipe_names())}"
    raise UsageError(f"recipe '{name_or_path:.200}': no such name or file; {hint}")


def _resolve(path: Path, heirs: tuple[Path, ...]) -> dict[str, Any]:
    """The settings of a base, updated with the settings in a file. heirs: the files that led here."""
    values = read_settings(path)
    base = values.pop("base", None)
    if base is None:
        return values
    if not isinstance(base, str) or not base.isprintable():
        raise UsageError(f"{path}: base must be the name or file of a recipe, got {show(base)}")
    heirs = (*heirs, path.resolve())
    if len(heirs) > MOST_BASES:
        raise UsageError(f"{path}: a chain of more than {MOST_BASES} bases; merge some of them")
    found = _find(base, path.parent)
    if found.resolve() in heirs:
        raise UsageError(f"{path}: its base '{base}' is based on this recipe; name another base")
    inherited = _resolve(found, heirs)
    inherited.pop("about", None)  # scores and command belong to the base alone
    return _merge(inherited, values)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`below`, with the values of `above` in their place, section by section."""
    merged = below | above
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            merged[key] = _merge(below[key], value)
    return merged

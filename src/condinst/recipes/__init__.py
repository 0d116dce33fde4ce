"""Named configurations. A recipe is a YAML file that says its expected scores, time and command.

It states what differs from the defaults or, with `base: NAME|FILE`, from another recipe. What is saved with a model is
the whole configuration, which names no base.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any

from condinst.config import Config, read_settings, show
from condinst.errors import UsageError

FOLDER = Path(__file__).parent
MOST_BASES = 20  # one on another


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_recipe(name_or_path: str) -> Config:
    """A recipe by name or from a YAML file, in this order; raises UsageError, with the nearest name, if there is none.

    A file that shares its name with a shipped recipe is reached as `./name`.
    """
    path = _find(name_or_path, Path())
    return Config.from_dict(_resolve(path, ()), str(path))


def _find(name_or_path: str, folder: Path) -> Path:
    """The file of a recipe; a relative path starts at `folder`."""
    if name_or_path in recipe_names():  # first, as a folder of data often bears the recipe's name
        return FOLDER / f"{name_or_path}.yaml"
    path = folder / name_or_path
    if path.suffix in {".yaml", ".yml"} or os.path.isfile(path):  # Path's own fails on a name that is too long
        return path
    near = difflib.get_close_matches(name_or_path, recipe_names(), 1)
    hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(recipe_names())}"
    raise UsageError(f"recipe '{name_or_path:.200}': no such name or file; {hint}")


def _resolve(path: Path, heirs: tuple[Path, ...]) -> dict[str, Any]:
    """The settings in a file over those of its base."""
    values = read_settings(path)
    base = values.pop("base", None)
    if base is None:
        return values
    if not isinstance(base, str) or not base.isprintable():
        raise UsageError(f"{path}: base must be the name or file of a recipe, got {show(base)}")
    heirs = (*heirs, path.resolve())
    if len(heirs) > MOST_BASES:
        raise UsageError(f"{path}: more than {MOST_BASES} bases, one on another; merge some of them")
    found = _find(base, path.parent)
    if found.resolve() in heirs:
        raise UsageError(f"{path}: its base '{base}' is built on it in turn; name another one")
    inherited = _resolve(found, heirs)
    inherited.pop("about", None)  # the scores and the command of a base are not its heir's
    return _merge(inherited, values)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` where it says something, in sections too, else `below`."""
    merged = below | above
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            merged[key] = _merge(below[key], value)
    return merged

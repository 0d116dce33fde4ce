"""From what was asked for (a recipe, a model to begin with, single settings) to the configuration of a run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from condinst.config import Config
from condinst.errors import UsageError
from condinst.recipes import load_recipe
from condinst.weights.names import shown_name

if TYPE_CHECKING:  # so that a slip in the command shows at once, not after seconds of loading torch
    from condinst.weights.folder import Stored

EPOCHS, ITERATIONS = "train.epochs", "train.iterations"
DEFAULT = "small"  # the recipe of a training without one
PLANNED = "small-rtm"  # another recipe whose numbers the data may change
ASSIGNER = ("assigner", "dynamic_radius", "dynamic_candidates")  # settings of the targets that belong to the losses
# a trained model has outgrown them
FIRST_ONLY = {"model.head.prior", "model.head.distance_prior", "model.head.tower_std", "model.classes"}


def is_planned(recipe: str | None) -> bool:
    """Return whether condinst chooses the settings that the user does not give from the data and the machine."""
    return recipe is None or recipe == PLANNED


def base_settings(recipe: str | None, start: Stored | None, overrides: list[str]) -> Config:
    """The configuration before the data is known. Raises UsageError for what is unknown, bad or contradictory.

    A model to begin with brings its own section `model` and, where no recipe says how to train, its losses with their
    assigner and how it detects.
    """
    config = load_recipe(recipe or DEFAULT)
    if recipe is None:
        config = config.model_copy(update={"about": {}})
    if start is not None:
        if recipe is not None:
            _refuse_contradiction(config, start, recipe)
        config = _begin_with(start, config, brings=("model",) if recipe else ("model", "detect", "loss"))
    return override(config, overrides)


def override(config: Config, overrides: list[str]) -> Config:
    """`config` with the user's `section.key=value` settings. Raises UsageError for a bad one.

    Either of train.epochs and train.iterations decides how long training takes: the one that the user gives.
    """
    given = {text.partition("=")[0].strip() for text in overrides}
    if {EPOCHS, ITERATIONS} <= given:
        raise UsageError(f"{EPOCHS} and {ITERATIONS} both set the length of the training; give only one of them")
    config = config.with_overrides(overrides)
    return config.with_overrides([f"{EPOCHS}=null"]) if ITERATIONS in given else config


def count_iterations(config: Config, pictures: int) -> Config:
    """`config` with the iterations that train.epochs makes of a training set of `pictures`, if it is set."""
    if config.train.epochs is None:
        return config
    step = config.train.batch_size * config.train.accumulate
    iterations = max(math.ceil(config.train.epochs * pictures / step), 1)
    return config.with_overrides([f"{ITERATIONS}={iterations}"])


def given_keys(overrides: list[str]) -> frozenset[str]:
    """The settings that `section.key=value` strings name, those of a whole section given at once included."""
    named = {text.partition("=")[0].strip() for text in overrides}
    every = [key for key, _ in leaves(Config().model_dump())]
    return frozenset(key for key in every if any(key == name or key.startswith(f"{name}.") for name in named))


def _begin_with(start: Stored, config: Config, brings: tuple[str, ...]) -> Config:
    words = {"started from": shown_name(start.path)}
    if "licence" in start.config.about:
        words["licence"] = start.config.about["licence"]
    sections: dict[str, Any] = {name: getattr(start.config, name) for name in brings}
    if "loss" in brings:
        own = {name: getattr(start.config.targets, name) for name in ASSIGNER}
        sections["targets"] = config.targets.model_copy(update=own)
        if start.config.input.stretch:  # the model works with its own size of the input alone
            side = start.config.input.longer
            still = {"shorter": (side,), "longer": side, "jitter": (1.0, 1.0), "crop": 0}
            sections |= {"input": start.config.input, "targets": start.config.targets}
            sections["augment"] = config.augment.model_copy(update=still)
    init = config.train.model_copy(update={"init": "none"})  # it has a backbone
    return config.model_copy(update={**sections, "train": init, "about": config.about | words})


def _refuse_contradiction(config: Config, start: Stored, recipe: str) -> None:
    own = dict(leaves({"model": start.config.model.model_dump()}))
    for key, value in leaves({"model": config.model.model_dump(exclude_unset=True)}):
        if key not in FIRST_ONLY and own[key] != value:
            raise UsageError(
                f"{key} is {value} in recipe {recipe} and {own[key]} in the model of --from, {start.path}; remove the "
                "section `model` from the recipe, or train without --from"
            )


def leaves(values: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    """(section.key, value) of every setting."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{place}{key}.")
        else:
            yield f"{place}{key}", value

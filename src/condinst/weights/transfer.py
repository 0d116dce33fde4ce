"""Start training from another model: copy all weights except the rows of new classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from condinst.errors import ModelError, some
from condinst.model.instance_network import InstanceNetwork
from condinst.settings.model import ModelConfig
from condinst.weights.tensors import expected_shapes, misfits, other_method

# tensors with one row for each class, also in the semantic head; a network with other rows has `class_rows`
PER_CLASS = ("head.class_logits.", "semantic_head.logits.")
Rows = Callable[[str, int], list[list[int]]]  # name of a tensor, number of classes → the rows of each class


def fill_from(model: InstanceNetwork, tensors: Mapping[str, Tensor], classes: tuple[str, ...]) -> str:
    """Copy another model's tensors to `model`, and match the rows of classes by name. Return a line about the classes.

    classes: class names of the other model, by label. The row of a new class keeps its values in `model`. Raises
    ModelError if the two networks differ in anything but classes.
    """
    settings = model.config
    if strange := other_method(tensors, settings.method):
        raise ModelError(f"{strange}; start from a model of the same method, or set model.method")
    problem = misfits(tensors, expected_shapes(settings.model_copy(update={"classes": classes})))
    if problem:
        raise ModelError(f"its tensors do not fit these settings: {problem}; leave out settings of the model")
    rows_of: Rows = getattr(model, "class_rows", _one_row)
    shared = [(label, classes.index(name)) for label, name in enumerate(settings.classes) if name in classes]
    with torch.no_grad():
        for name, own in model.state_dict().items():
            mine, theirs = (rows_of(name, max(len(names), 1)) for names in (settings.classes, classes))
            if not mine:
                own.copy_(tensors[name])
                continue
            pairs = [(_others(mine, len(own)), _others(theirs, len(tensors[name])))]
            pairs += [(mine[label], theirs[other]) for label, other in shared]
            for into, out in pairs:
                own[into] = tensors[name][out].to(own.dtype)
    return _note(settings, classes)


def _one_row(name: str, classes: int) -> list[list[int]]:
    return [[label] for label in range(classes)] if name.startswith(PER_CLASS) else []


def _others(rows: list[list[int]], count: int) -> list[int]:
    """Return the rows of a tensor of `count` rows that belong to no class, such as those of the background."""
    taken = {row for of_class in rows for row in of_class}
    return [row for row in range(count) if row not in taken]


def _note(settings: ModelConfig, classes: tuple[str, ...]) -> str:
    kept = [name for name in settings.classes if name in classes]
    fresh = [name for name in settings.classes if name not in classes]
    if not fresh:
        return f"all weights are kept, including the classes {some(kept)}"
    known = f"; kept classes: {some(kept)}" if kept else ""
    return f"all weights are kept except for the new classes {some(fresh)}{known}"

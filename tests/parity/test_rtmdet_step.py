"""A whole training step of RTMDet-Ins as mmdetection makes it: losses, gradients, and one step of AdamW.

The recorded numbers lie in ../shared/reference/rtmdet_ins; each test's largest deviations are its recorded properties.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pytest
import torch

from condinst.config import Config
from condinst.data.batch import Batch
from condinst.engine.losses import prepare, step_losses
from condinst.engine.optimizer import make_optimizer
from condinst.engine.processes import make_accelerator
from condinst.model.rtmdet_ins import RTMDetIns
from condinst.recipes import load_recipe
from condinst.structures import Images
from condinst.weights.classes import COCO_CLASSES
from condinst.weights.published.rtmdet import source_names
from tests.parity.rtmdet_formula import SETS
from tests.parity.test_rtmdet_assignment import CASES, MEAN, STD
from tests.parity.test_rtmdet_network import state
from tests.parity.test_rtmdet_training_units import Arrays, load, make_truth

Note = Callable[[str, object], None]
T = TypeVar("T")
LOSS = {"trainbn": 1e-4, "frozenbn": 1e-5}  # relative
GRADIENT = 2e-3  # of the norm, relative to max(own, 1e-3 · the largest)


class Step(NamedTuple):
    """A recorded step and what ours makes of it. model: after the backward pass."""

    recorded: Arrays
    losses: dict[str, float]
    model: RTMDetIns
    config: Config


@pytest.fixture(scope="module")
def step_of(reference: Path) -> Callable[[str], Step]:
    recipe = load_recipe("rtmdet-ins-tiny")
    config = recipe.model_copy(update={"model": recipe.model.model_copy(update={"classes": COCO_CLASSES})})
    weights = state(SETS["tiny_t"])

    def run(name: str) -> Step:
        recorded = load(reference, f"train_tiny_{name}")
        model = RTMDetIns(config.model)
        model.load_state_dict(weights)
        model.train(name.endswith("trainbn"))
        mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
        tensor = (torch.from_numpy(recorded["images_u8"]) - mean) / std
        size = (tensor.shape[2], tensor.shape[3])
        batch = Batch(Images(tensor, (size, size), (size, size)), (make_truth(recorded, 0), make_truth(recorded, 1)))
        accelerator = make_accelerator(config)
        (part,) = prepare([batch], config, accelerator)
        losses = step_losses(model, part, torch.Generator().manual_seed(0), 0, config, accelerator)
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        return Step(recorded, {name: float(loss.detach()) for name, loss in losses.items()}, model, config)

    return cache(run)


@pytest.mark.parametrize("name", CASES)
def test_losses(step_of: Callable[[str], Step], name: str, record_property: Note) -> None:
    recorded, losses, *_ = step_of(name)
    expected = {
        "classification": float(recorded["loss_cls"].sum()),
        "box": float(recorded["loss_bbox"].sum()),
        "mask": float(recorded["loss_mask"]),
    }
    for term, value in expected.items():
        deviation = abs(losses[term] - value) / max(abs(value), 1e-6)
        record_property(term, deviation)
        assert deviation <= LOSS[name.rpartition("_")[2]], term
    assert all(losses[term] == 0 for term in losses.keys() - expected.keys())
    assert sum(losses.values()) == pytest.approx(float(recorded["loss_total"]), rel=LOSS[name.rpartition("_")[2]])


@pytest.mark.parametrize("name", CASES)
def test_gradients(step_of: Callable[[str], Step], name: str, record_property: Note) -> None:
    """Also of the whole tensors that are recorded. A tensor without a gradient counts as zero."""
    recorded, _, model, _ = step_of(name)
    gradients = by_published_name({own: parameter.grad for own, parameter in model.named_parameters()})
    names, norms = recorded["grad_names"].tolist(), np.maximum(recorded["grad_norm"], 0)
    assert sorted(names) == sorted(gradients)
    worst = 0.0
    for source, norm in zip(names, norms, strict=True):
        gradient = gradients[source]
        found = 0.0 if gradient is None else float(gradient.double().norm())
        worst = max(worst, abs(found - norm) / max(norm, 1e-3 * norms.max()))
    record_property("norms, relative", float(worst))
    assert worst <= GRADIENT
    for key in recorded:
        source = key.removeprefix("grad.")
        if source in gradients and source != key:
            gradient = gradients[source]
            assert gradient is not None
            deviation = np.linalg.norm(gradient.numpy() - recorded[key]) / np.linalg.norm(recorded[key])
            record_property(source, float(deviation))
            assert deviation <= GRADIENT, source


def test_one_step_of_the_optimizer(step_of: Callable[[str], Step], reference: Path, record_property: Note) -> None:
    """The first step of AdamW has the sign of each gradient, so values whose gradient is almost zero may differ."""
    _, _, model, config = step_of("two_trainbn")
    recorded = load(reference, "optim")
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    ours = RTMDetIns(config.model)
    ours.load_state_dict(state(SETS["tiny_t"]))
    for name, parameter in ours.named_parameters():
        parameter.grad = gradients[name]
    make_optimizer(ours, config.train).step()
    after = by_published_name({own: parameter.detach() for own, parameter in ours.named_parameters()})
    worst = 0.0
    for source, length in zip(recorded["opt.names"].tolist(), recorded["adamw.l2_after"], strict=True):
        worst = max(worst, abs(float(after[source].double().norm()) - length) / length)
    record_property("L2, relative", float(worst))
    assert worst <= 1e-3
    whole = [key for key in recorded if key.startswith("adamw.after.") and "__" not in key]
    assert len(whole) >= 4
    for key in whole:
        difference = np.abs(after[key.removeprefix("adamw.after.")].numpy() - recorded[key])
        assert np.quantile(difference, 0.99) <= 1e-4


def by_published_name(tensors: dict[str, T]) -> dict[str, T]:
    return {source_names(own)[0]: tensor for own, tensor in tensors.items()}

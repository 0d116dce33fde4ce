"""Targets, losses and gradients of the SOLO family with formula weights, against mmdetection's recorded ones.

The recorded properties of a test are the largest deviations.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from condinst.config import Config
from condinst.data.batch import Batch
from condinst.engine.losses import Goal, losses_of, prepare
from condinst.engine.processes import make_accelerator
from condinst.model.heads.solo.output import SoloOutput
from condinst.model.solo import SoloNetwork
from condinst.ops.bitmaps.packed_masks import pack
from condinst.structures import Images, Truth
from condinst.training.solo.step import mask_losses
from condinst.training.solo.targets import SoloTargets
from condinst.weights.published.solo import source_names
from tests.parity.solo_formula import GOLDEN, MEAN, STD, Arrays, build, config_of, load

Note = Callable[[str, object], None]
Scene = dict[str, Any]
# forms whose code other forms have, too: only on demand
VARIANTS = ("decoupled", "solov2_light")
NAMES = [pytest.param(name, marks=pytest.mark.variant if name in VARIANTS else ()) for name in GOLDEN]
SIZE = (448, 512)
GRIDS = (40, 36, 24, 16, 12)
LOSS, HEAD, BACKBONE, TOTAL = 1e-5, 5e-4, 3e-3, 1e-4  # relative; the last three are of norms of gradients


class Step(NamedTuple):
    """A recorded step and what ours makes of it. model: after the backward pass."""

    arrays: Arrays
    numbers: dict[str, Any]
    targets: SoloTargets
    dice: Tensor
    losses: dict[str, float]
    model: SoloNetwork


@pytest.fixture(scope="module")
def step_of(reference: Path) -> Callable[[str], Step]:
    @cache
    def run(name: str) -> Step:
        numbers = json.loads((reference / GOLDEN[name].folder / f"{name}__train.json").read_text())
        config, model, batch = config_of(name), build(reference, name).train(), make_batch(numbers["scenes"])
        output, goal, losses = one_step(model, batch, config)
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            dice = mask_losses(output.masks, goal.targets, 2)
        found = {term: float(loss.detach()) for term, loss in losses.items()}
        return Step(load(reference, name, "train"), numbers, goal.targets, dice, found, model)

    return run


def one_step(model: SoloNetwork, batch: Batch, config: Config) -> tuple[SoloOutput, Goal, dict[str, Tensor]]:
    (part,) = prepare([batch], config, make_accelerator(config))
    assert part.goal is not None
    output = model(batch.images.tensor)
    losses = losses_of(output, part.goal, batch, torch.Generator().manual_seed(0), 0, config)
    return output, part.goal, dict(losses)


def make_batch(scenes: list[Scene]) -> Batch:
    tensor = torch.zeros(len(scenes), 3, *SIZE)
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    for image, scene in zip(tensor, scenes, strict=True):
        picture = torch.from_numpy(paint(scene)).permute(2, 0, 1).float()
        image[:, : scene["h"], : scene["w"]] = (picture - mean) / std
    sizes = tuple((scene["h"], scene["w"]) for scene in scenes)
    return Batch(Images(tensor, sizes, sizes), tuple(make_truth(scene) for scene in scenes))


def paint(scene: Scene) -> NDArray[np.uint8]:
    phase = scene.get("phase", 0.0)
    y, x, c = np.meshgrid(np.arange(scene["h"]), np.arange(scene["w"]), np.arange(3), indexing="ij")
    waves = 60 * np.sin(2 * np.pi * y / (41 + 6 * c) + c + phase)
    waves = waves + 50 * np.cos(2 * np.pi * x / (53 + 4 * c) + 2 * c + phase)
    waves = waves + 15 * np.sin(2 * np.pi * (x + 2 * y) / (17 + c))
    return np.floor(127.5 + waves).clip(0, 255).astype(np.uint8)


def draw(shape: list[Any], height: int, width: int) -> NDArray[np.bool_]:
    kind, *numbers = shape
    y, x = np.mgrid[:height, :width] + 0.5
    if kind == "rect":
        x0, y0, x1, y1 = numbers
        return (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
    if kind == "ellipse":
        cx, cy, rx, ry = numbers
        return ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1
    x0, y0, side = numbers
    return (x >= x0) & (y >= y0) & ((x - x0) + (y - y0) <= side)


def make_truth(scene: Scene) -> Truth:
    masks = [draw(shape, scene["h"], scene["w"]) for _, shape in scene["objs"]]
    boxes, centroids = [], []
    for mask in masks:
        rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
        boxes.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
        y, x = mask.nonzero()
        centroids.append((x.mean(), y.mean()))
    stacked = np.stack(masks) if masks else np.zeros((0, scene["h"], scene["w"]), dtype=np.bool_)
    pixels, places = pack(torch.from_numpy(stacked))
    return Truth(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor([label for label, _ in scene["objs"]], dtype=torch.int64),
        torch.tensor(centroids, dtype=torch.float32).reshape(-1, 2),
        pixels,
        places,
        torch.full((-(-scene["h"] // 8), -(-scene["w"] // 8)), -1),
        torch.ones(len(masks), dtype=torch.bool),
    )


@pytest.mark.parametrize("name", NAMES)
def test_targets(step_of: Callable[[str], Step], name: str) -> None:
    """Classes, cells in the recorded order, and masks, bit for bit."""
    arrays, numbers, targets, *_ = step_of(name)
    first = np.cumsum([0, *(grid * grid for grid in GRIDS)])
    counts = {tuple(row[:2]): row[2:] for row in numbers["positives_image_level_masks_cells"]}
    for level, (grid, of_level) in enumerate(zip(GRIDS, targets.levels, strict=True)):
        for image in range(2):
            labels = targets.labels[image, first[level] : first[level + 1]].reshape(grid, grid)
            assert np.array_equal(labels, arrays[f"labels.{image}.{level}"])
            mine = of_level.images == image
            cells, masks = of_level.cells[mine], of_level.bitmaps[of_level.masks[mine]].numpy()
            assert cells.tolist() == arrays[f"pos_cells.{image}.{level}"].tolist()
            assert masks.sum((1, 2)).tolist() == arrays[f"target_area.{image}.{level}"].tolist()
            assert counts[image, level] == [len(cells), int((labels < 80).sum())]
            if len(cells):
                width = arrays[f"target_shape.{image}.{level}"][-1]
                expected = np.unpackbits(arrays[f"target_bits.{image}.{level}"], axis=-1)[..., :width]
                assert np.array_equal(masks, expected.astype(bool))


@pytest.mark.parametrize("name", NAMES)
def test_losses(step_of: Callable[[str], Step], name: str, record_property: Note) -> None:
    _, numbers, _, _, losses, _ = step_of(name)
    for term, key in (("classification", "loss_cls"), ("mask", "loss_mask")):
        deviation = abs(losses[term] / numbers["losses"][key] - 1)
        record_property(term, deviation)
        assert deviation <= LOSS, term
    assert all(value == 0 for term, value in losses.items() if term not in {"classification", "mask"})


@pytest.mark.parametrize("name", NAMES)
def test_dice_of_each_positive(step_of: Callable[[str], Step], name: str, record_property: Note) -> None:
    arrays, _, _, dice, *_ = step_of(name)
    deviation = np.abs(3 * dice.numpy() - arrays["dice"]).max()
    record_property("dice", float(deviation))
    assert deviation <= 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_gradients(step_of: Callable[[str], Step], name: str, record_property: Note) -> None:
    arrays, numbers, _, _, _, model = step_of(name)
    gradients = {source_names(own)[0]: parameter.grad for own, parameter in model.named_parameters()}
    assert {key for key, gradient in gradients.items() if gradient is None} == set(numbers["no_grad"])
    worst = {"heads": 0.0, "backbone": 0.0}
    for key, (norm, *_) in numbers["grad"].items():
        gradient = gradients[key]
        assert gradient is not None
        part = "backbone" if key.startswith("backbone") else "heads"
        worst[part] = max(worst[part], abs(float(gradient.double().norm()) - norm) / max(norm, 1e-8))
    whole = [gradient for gradient in gradients.values() if gradient is not None]
    total = float(torch.stack([gradient.double().norm() for gradient in whole]).norm())
    worst["total"] = abs(total / numbers["grad_norm_total"] - 1)
    for part, value in worst.items():
        record_property(part, value)
    assert (worst["heads"] <= HEAD, worst["backbone"] <= BACKBONE, worst["total"] <= TOTAL) == (True, True, True), worst
    recorded = [key for key in arrays if key.startswith("grad:")]
    assert len(recorded) > 20
    far = 0.0
    for key in recorded:
        gradient = gradients[key.removeprefix("grad:")]
        assert gradient is not None
        far = max(far, float(np.linalg.norm(gradient.numpy() - arrays[key]) / np.linalg.norm(arrays[key])))
    record_property("whole gradients", far)
    assert far <= BACKBONE


@pytest.mark.slow
@pytest.mark.parametrize("case", ["second_image_empty", "both_empty"])
@pytest.mark.parametrize("name", ["solo", "decoupled_light", "solov2"])
def test_pictures_without_objects(reference: Path, name: str, case: str, record_property: Note) -> None:
    """Each parameter that learns has a gradient all the same."""
    recorded = json.loads((reference / GOLDEN[name].folder / f"{name}__edge.json").read_text())[case]
    scenes = [scene | {"phase": phase} for scene, phase in zip(recorded["scenes"], (0.0, 0.7), strict=True)]
    model = build(reference, name).train()
    *_, losses = one_step(model, make_batch(scenes), config_of(name))
    for term, key in (("classification", "loss_cls"), ("mask", "loss_mask")):
        deviation = abs(float(losses[term].detach()) - recorded["losses"][key]) / max(recorded["losses"][key], 1e-9)
        record_property(term, deviation)
        assert deviation <= LOSS, term
    if case == "second_image_empty":
        return
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert all(parameter.grad is not None and bool(parameter.grad.isfinite().all()) for parameter in learning)

"""The assignment of RTMDet-Ins and what its losses make of it, from the network whose weights a formula fills.

The recorded numbers lie in ../shared/reference/rtmdet_ins; each test's largest deviations are its recorded properties.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from condinst.engine.optimizer import make_optimizer
from condinst.model.rtmdet_ins import RTMDetIns
from condinst.ops import losses
from condinst.ops.boxes import boxes_from_distances
from condinst.ops.locations import flatten_levels
from condinst.settings.training import TrainConfig
from condinst.structures import RTMDET_INS, NetworkOutput, Targets, Truth
from condinst.training.dynamic_targets import OVERLAP_WEIGHT, Predictions, assign_dynamic, compare
from condinst.weights.published.rtmdet import source_names
from tests.parity.rtmdet_formula import SETS
from tests.parity.test_rtmdet_network import MEAN, STD, build, state
from tests.parity.test_rtmdet_training_units import CANDIDATES, CLASSES, RADIUS, Arrays, load, make_truth

Note = Callable[[str, object], None]
IOU = 1e-5  # rounding of an IoU, after batch statistics
CASES = (
    *(f"{case}_frozenbn" for case in ("two", "one_empty", "both_empty", "no_candidate")),
    *(f"{case}_trainbn" for case in ("two", "one_empty")),
)
LEVELS = [(stride, 256 // stride, 320 // stride) for stride in RTMDET_INS.strides]


class Case(NamedTuple):
    """A recorded case and what ours makes of it."""

    recorded: Arrays
    truths: tuple[Truth, Truth]
    output: NetworkOutput
    targets: Targets


@pytest.fixture(scope="module")
def case_of(reference: Path) -> Callable[[str], Case]:
    weights = state(SETS["tiny_t"])

    def run(name: str) -> Case:
        recorded = load(reference, f"train_tiny_{name}")
        model = build("tiny").train(name.endswith("trainbn"))
        model.load_state_dict(weights)
        mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
        with torch.no_grad():
            output = model((torch.from_numpy(recorded["images_u8"]) - mean) / std)
        truths = (make_truth(recorded, 0), make_truth(recorded, 1))
        targets = assign_dynamic(output, truths, RTMDET_INS, CLASSES, RADIUS, CANDIDATES)
        return Case(recorded, truths, output, targets)

    return cache(run)


def predictions(output: NetworkOutput, image: int) -> Predictions:
    rows = [(x * s, y * s, s) for s, height, width in LEVELS for y in range(height) for x in range(width)]
    points, strides = torch.tensor(rows, dtype=torch.float32).split((2, 1), dim=1)  # type: ignore[no-untyped-call]
    logits, distances = (flatten_levels(levels)[image] for levels in output.head[:2])
    return Predictions(points, strides[:, 0], logits, boxes_from_distances(points, distances * strides))


@pytest.mark.parametrize("name", CASES)
def test_positives(case_of: Callable[[str], Case], name: str, record_property: Note) -> None:
    """The same locations learn the same instances."""
    recorded, truths, _, targets = case_of(name)
    first, worst = 0, 0.0
    for image, truth in enumerate(truths):
        positive = (targets.instance_index[image] >= 0).nonzero()[:, 0]
        assert positive.tolist() == recorded[f"assign{image}.pos_prior"].tolist()
        instance = targets.instance_index[image][positive] - first
        assert instance.tolist() == recorded[f"assign{image}.pos_gt"].tolist()
        assert targets.labels[image][positive].tolist() == recorded[f"assign{image}.pos_label"].tolist()
        deviation = np.abs(targets[2][image][positive].numpy() - recorded[f"assign{image}.pos_iou"])
        worst = max(worst, deviation.max(initial=0))
        first += len(truth.labels)
    record_property("IoU", float(worst))
    assert worst < IOU


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith(("two", "one"))])
def test_costs(case_of: Callable[[str], Case], name: str, record_property: Note) -> None:
    """Costs above 1000 come from the distance alone, as a power of ten.

    −log IoU of boxes that hardly overlap multiplies the rounding of the IoU.
    """
    recorded, truths, output, _ = case_of(name)
    for image, truth in enumerate(truths):
        if not len(truth.labels):
            continue
        inside = torch.from_numpy(recorded[f"assign{image}.candidate_prior"]).long()
        candidates = Predictions(*(values[inside] for values in predictions(output, image)))
        ((cost, overlap),) = compare(candidates, truth, RADIUS, OVERLAP_WEIGHT)
        expected = recorded[f"assign{image}.cost"].T
        low = expected < 1e3
        allowed = 1e-3 + OVERLAP_WEIGHT * IOU / (recorded[f"assign{image}.iou"].T + 1e-7)
        difference = np.abs(cost.numpy() - expected)
        record_property(f"image {image}, cost", float(difference[low].max()))
        assert (low == (cost.numpy() < 1e3)).all()
        assert (difference <= allowed)[low].all()
        assert (allowed < 2e-3)[low].mean() > 0.3
        difference = np.abs(overlap.numpy() - recorded[f"assign{image}.iou"].T).max()
        record_property(f"image {image}, IoU", float(difference))
        assert difference < 1e-5


def level_losses(case: Case) -> Iterator[tuple[Tensor, Tensor]]:
    """Classification and box loss of each level, with the weights 1 and 2."""
    _, _, output, targets = case
    quality = targets[2]
    divisor = quality.sum().clamp(min=1)
    one_hot = F.one_hot(targets.labels, CLASSES + 1)[..., :-1]
    classes = losses.quality_focal(flatten_levels(output.head.class_logits), one_hot * quality[..., None]).sum(-1)
    strides = torch.tensor([float(s) for s, height, width in LEVELS for _ in range(height * width)])[:, None]
    sides = (flatten_levels(output.head.distances_in_strides), targets.distances_in_strides)
    boxes = losses.clamped_giou_loss(*(distances * strides for distances in sides)) * quality
    counts = [height * width for _, height, width in LEVELS]
    for level in zip(classes.split(counts, dim=1), boxes.split(counts, dim=1), strict=True):  # type: ignore[no-untyped-call]
        yield level[0].sum() / divisor, 2 * level[1].sum() / divisor


@pytest.mark.parametrize("name", CASES)
def test_losses(case_of: Callable[[str], Case], name: str, record_property: Note) -> None:
    case = case_of(name)
    found = torch.tensor(list(level_losses(case))).T.double().numpy()
    expected: NDArray[Any] = np.stack((case.recorded["loss_cls"], case.recorded["loss_bbox"]))
    deviation = np.abs(found - expected) / expected.clip(min=1e-3)
    record_property("relative", float(deviation.max()))
    assert deviation.max() < (1e-4 if name.endswith("trainbn") else 1e-5)


def test_weight_decay(reference: Path) -> None:
    recorded = load(reference, "optim")
    model: RTMDetIns = build("tiny")
    optimizer = make_optimizer(model, TrainConfig(optimizer="adamw", lr=0.004, weight_decay=0.05))
    names = {id(parameter): source_names(name)[0] for name, parameter in model.named_parameters()}
    found = {names[id(p)]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert found == dict(zip(recorded["opt.names"].tolist(), recorded["opt.weight_decay"].tolist(), strict=True))
    for group in optimizer.param_groups:
        assert (group["lr"], group["betas"], group["eps"], group["amsgrad"]) == (0.004, (0.9, 0.999), 1e-8, False)

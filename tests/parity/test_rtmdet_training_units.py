"""Losses, assignment, learning rate and moving average of RTMDet-Ins without its network, as mmdetection computes them.

The recorded numbers lie in ../shared/reference/rtmdet_ins; each test's largest deviations are its recorded properties.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from condinst.engine.averaging import moving_average
from condinst.engine.optimizer import lr_factor
from condinst.ops import losses
from condinst.ops.bitmaps.packed_masks import pack
from condinst.settings.training import TrainConfig
from condinst.structures import Truth
from condinst.training.dynamic_targets import settle

CASES = ("two", "one_empty", "both_empty", "no_candidate")
HEIGHT, WIDTH, CLASSES = 256, 320, 80
RADIUS, CANDIDATES = 3.0, 13
CPU = torch.device("cpu")
Arrays = dict[str, NDArray[Any]]
Note = Callable[[str, object], None]


def load(reference: Path, name: str) -> Arrays:
    with np.load(reference / "rtmdet_ins" / f"{name}.npz") as file:
        return dict(file)


@pytest.fixture
def unit(reference: Path) -> dict[str, Tensor]:
    return {name: torch.from_numpy(values) for name, values in load(reference, "unit").items()}


def agree(found: Tensor, recorded: Tensor, note: Note, tolerance: float = 1e-6) -> None:
    deviation = abs(found.item() / recorded.item() - 1)
    note("relative", deviation)
    assert deviation < tolerance


def test_quality_focal(unit: dict[str, Tensor], record_property: Note) -> None:
    one_hot = F.one_hot(unit["qfl.label"], CLASSES + 1)[:, :-1]
    found = losses.quality_focal(unit["qfl.logits"], one_hot * unit["qfl.quality"][:, None])
    agree(found.sum(), unit["qfl.loss_sum"], record_property)


@pytest.mark.parametrize("location", [(0.0, 0.0), (7.0, 16.0), (100.0, 3.0)])
def test_giou(unit: dict[str, Tensor], location: tuple[float, float], record_property: Note) -> None:
    """The boxes as distances from a location that may lie outside them."""
    at, outward = torch.tensor(location * 2), torch.tensor([-1.0, -1, 1, 1])
    predicted, target = ((unit[name] - at) * outward for name in ("giou.pred", "giou.target"))
    found = 2 * (losses.clamped_giou_loss(predicted, target) * unit["giou.weight"]).sum()
    agree(found, unit["giou.loss_sum"], record_property)


def test_dice(unit: dict[str, Tensor], record_property: Note) -> None:
    """Ours adds 1e-5 to the denominator once, where the other adds 5e-6 twice."""
    found = 2 * losses.dice_loss(unit["dice.logits"], unit["dice.target"]).sum() / 4
    agree(found, unit["dice.loss_avg4"], record_property)


@pytest.mark.parametrize("case", CASES)
def test_positives_of_the_recorded_costs(reference: Path, case: str) -> None:
    """The same locations take the same instances, whether the costs come at once or one instance after the other."""
    recorded = load(reference, f"train_tiny_{case}_frozenbn")
    for image in range(2):
        prior, instance = recorded[f"assign{image}.pos_prior"], recorded[f"assign{image}.pos_gt"]
        if f"assign{image}.cost" not in recorded:
            assert not len(prior)
            continue
        candidates = recorded[f"assign{image}.candidate_prior"]
        pairs = [torch.from_numpy(recorded[f"assign{image}.{name}"]).T for name in ("cost", "iou")]
        cost, overlap = pairs
        for at_once in (1, 2, len(cost)):
            blocks = list(zip(cost.split(at_once), overlap.split(at_once), strict=True))  # type: ignore[no-untyped-call]
            found = settle(blocks, len(candidates), CANDIDATES, CPU).numpy()
            assert candidates[found >= 0].tolist() == prior.tolist()
            assert found[found >= 0].tolist() == instance.tolist()


def make_truth(recorded: Arrays, image: int) -> Truth:
    """The centroid is the mean of the pixel indices, without half a pixel."""
    packed = recorded[f"gt{image}.masks_packed"]
    masks = np.unpackbits(packed, axis=1).reshape(-1, HEIGHT, WIDTH)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    centroids = [[(mask * x).sum() / mask.sum(), (mask * y).sum() / mask.sum()] for mask in masks]
    return Truth(
        torch.from_numpy(recorded[f"gt{image}.boxes"]),
        torch.from_numpy(recorded[f"gt{image}.labels"]).long(),
        torch.tensor(centroids, dtype=torch.float32).reshape(-1, 2),
        *pack(torch.from_numpy(masks[:, 2::4, 2::4]).bool()),
        torch.full((HEIGHT // 8, WIDTH // 8), -1),
        torch.ones(len(masks), dtype=torch.bool),
    )


@pytest.mark.parametrize(("size", "rate"), [("tiny", 0.004), ("x", 0.002)])
def test_learning_rate(reference: Path, size: str, rate: float, record_property: Note) -> None:
    recorded = load(reference, "optim")
    config = TrainConfig(schedule="flat_cosine", iterations=24 * 300, warmup_iterations=1000, warmup_factor=1e-5)
    found = np.array([rate * lr_factor(int(at), config) for at in recorded[f"lr.{size}.iters"]])
    deviation = np.abs(found / recorded[f"lr.{size}.values"] - 1).max()
    record_property("relative", float(deviation))
    assert deviation < 1e-9


class StandIn(nn.Module):
    """A number for each recorded tensor. A tensor that mmdetection's towers share moves several times in a step."""

    def __init__(self, keys: list[str]) -> None:
        super().__init__()
        self.numbers = nn.ParameterList([torch.ones(()) for _ in keys])
        self.ema_updates = {
            f"numbers.{at}": 6 if key.endswith("conv.weight") else 2
            for at, key in enumerate(keys)
            if "cls_convs" in key
        }


def test_moving_average(reference: Path, record_property: Note) -> None:
    recorded = load(reference, "optim")
    model = StandIn([str(key) for key in recorded["ema.keys"]])
    average = moving_average(model, TrainConfig(ema_decay=0.9998, ema_warmup=2000))

    def update(value: float) -> NDArray[np.float64]:
        for number in model.parameters():
            number.data.fill_(value)
        average.update_parameters(model)
        return np.array([number.item() for number in average.module.parameters()])

    steps = [update(1 + 0.5 * step) for step in range(4)]
    average.n_averaged.fill_(20_000)
    expected = np.array([*recorded["ema.ratio_to_start"], recorded["ema.ratio_after_step20000"]])
    deviation = np.abs(np.array([*steps, update(4)]) / expected - 1).max()
    record_property("relative", float(deviation))
    assert deviation < 1e-6

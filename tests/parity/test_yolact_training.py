"""One training step of mmdetection's YOLACT, its weights filled by formula: assignment, losses, gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from condinst.model.heads.yolact.anchor_head import each_anchor
from condinst.model.yolact import Yolact, YolactOutput
from condinst.ops.anchors import encode_boxes, make_anchors
from condinst.ops.bitmaps.packed_masks import pack
from condinst.ops.boxes import box_cells
from condinst.ops.prototypes import mix_prototypes
from condinst.recipes import load_recipe
from condinst.structures import Images, Losses, Norms, Truth
from condinst.training.yolact.assign import YolactTargets, assign_anchors, count_anchors
from condinst.training.yolact.objective import class_loss, yolact_losses
from condinst.weights.published.yolact import source_names
from tests.parity.yolact_formula import MODEL, build, fill, normalise, read_json

Note = Callable[[str, object], None]
SIDE = 550
Y, X = np.mgrid[:SIDE, :SIDE].astype(np.float64)
TERMS = {"classification": "loss_cls", "box": "loss_bbox", "mask": "loss_mask", "semantic": "loss_segm"}
CONFIG = load_recipe("yolact-r50").model_copy(update={"model": MODEL})
CASES = ("yolact", "yolact_bnbatch")
EDGES = ("second_image_empty", "both_empty", "over_100_positives")


class Step(NamedTuple):
    """What ours makes of a batch after one backward pass, and what was recorded."""

    recorded: dict[str, Any]
    arrays: Any
    model: Yolact
    output: YolactOutput
    truths: tuple[Truth, ...]
    targets: YolactTargets
    losses: Losses


@pytest.fixture(scope="module")
def folder(reference: Path) -> Path:
    return reference / "yolact"


@pytest.fixture(scope="module")
def state(folder: Path) -> dict[str, Tensor]:
    return fill(folder)


@pytest.fixture(scope="module")
def step_of(folder: Path, state: dict[str, Tensor]) -> Callable[[str], Step]:
    def run(name: str) -> Step:
        recorded = read_json(folder, f"{name}__train.json")
        model = build(state).train()
        if name == "yolact":
            model.backbone.eval()
        truths = tuple(make_truth(scene) for scene in recorded["scenes"])
        output, targets, losses = learn(model, recorded["scenes"], truths)
        torch.stack(list(losses)).sum().backward()
        return Step(recorded, np.load(folder / f"{name}__train.npz"), model, output, truths, targets, losses)

    return cache(run)


def learn(
    model: Yolact, scenes: list[Any], truths: tuple[Truth, ...], seed: int = 0
) -> tuple[YolactOutput, YolactTargets, Losses]:
    images = torch.cat([normalise(picture(scene["phase"])) for scene in scenes])
    output = model(images)
    targets = assign_anchors(None, truths, (SIDE, SIDE), CONFIG)
    counts = count_anchors(targets, CONFIG)
    batch = Images(images, ((SIDE, SIDE),) * 2, ((SIDE, SIDE),) * 2)
    norms, generator = Norms(counts.positives, counts.quality), torch.Generator().manual_seed(seed)
    return output, targets, yolact_losses(output, targets, norms, batch, CONFIG, 0, generator)


def picture(phase: float) -> NDArray[np.uint8]:
    channels = [
        127.5
        + 60 * np.sin(2 * np.pi * Y / (41 + 6 * c) + c + phase)
        + 50 * np.cos(2 * np.pi * X / (53 + 4 * c) + 2 * c + phase)
        + 15 * np.sin(2 * np.pi * (X + 2 * Y) / (17 + c))
        for c in range(3)
    ]
    return np.stack([np.floor(channel).clip(0, 255) for channel in channels], axis=-1).astype(np.uint8)


def make_truth(scene: dict[str, Any]) -> Truth:
    masks = np.array([draw(*shape) for _, shape in scene["objs"]]).reshape(-1, SIDE, SIDE)
    boxes = [tight(mask) for mask in masks]
    return Truth(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor([label for label, _ in scene["objs"]], dtype=torch.int64),
        centroids=torch.zeros(len(masks), 2),
        **dict(zip(("mask_pixels", "mask_places"), pack(torch.from_numpy(masks).bool()), strict=True)),
        semantic=torch.full((69, 69), -1),
        has_mask=torch.ones(len(masks), dtype=torch.bool),
    )


def draw(kind: str, *numbers: float) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_]
    if kind == "ellipse":
        cx, cy, rx, ry = numbers
        inside = ((X + 0.5 - cx) / rx) ** 2 + ((Y + 0.5 - cy) / ry) ** 2 <= 1
    elif kind == "triangle":
        x0, y0, side = numbers
        x, y = X + 0.5, Y + 0.5
        inside = (x >= x0) & (y >= y0) & (x - x0 + y - y0 <= side)
    else:
        x0, y0, x1, y1 = numbers
        inside = (x0 <= X) & (y0 <= Y) & (x1 > X) & (y1 > Y)
    return inside


def tight(mask: NDArray[np.bool_]) -> list[int]:
    rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def test_the_shapes_are_the_recorded_ones(folder: Path) -> None:
    for scene in read_json(folder, "yolact__train.json")["scenes"]:
        masks = [draw(*shape) for _, shape in scene["objs"]]
        assert [int(mask.sum()) for mask in masks] == scene["mask_area"]
        assert [tight(mask) for mask in masks] == scene["boxes"]


@pytest.mark.parametrize("image", [0, 1])
def test_assignment(step_of: Callable[[str], Step], image: int, record_property: Note) -> None:
    """The same anchors learn the same instances, and the same masks and classes of pixels."""
    step = step_of("yolact")
    arrays, targets = step.arrays, step.targets
    first = sum(len(truth.labels) for truth in step.truths[:image])
    index, labels = targets.instance_index[image], targets.labels[image]
    positive = (index >= 0).nonzero()[:, 0]
    assert positive.tolist() == arrays[f"pos_anchor.{image}"].tolist()
    assert (index[positive] - first).tolist() == arrays[f"pos_gt.{image}"].tolist()
    assert labels[positive].tolist() == arrays[f"pos_label.{image}"].tolist()
    assert (labels == -1).nonzero()[:, 0].tolist() == sorted(arrays[f"ignored_anchor.{image}"].tolist())
    sizes = [(level.shape[2], level.shape[3]) for level in step.output.head.deltas]
    deltas = encode_boxes(make_anchors(sizes)[positive], targets.boxes[index[positive]]).numpy()
    apart = float(np.abs(deltas - arrays[f"pos_targets.{image}"]).max())
    record_property("deltas", apart)
    assert apart <= 1e-5
    assert (targets.boxes[index[positive]].numpy() == arrays[f"mask_gt_box.{image}"]).all()
    recorded = np.unpackbits(arrays[f"mask_target_bits.{image}"], axis=-1)[..., :138].astype(bool)
    assert (targets.masks[index[positive]].numpy() == recorded).all()
    assert targets.semantic[image].sum((1, 2)).tolist() == arrays[f"segm_target_area.{image}"].tolist()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("image", [0, 1])
def test_parts_of_the_losses(step_of: Callable[[str], Step], name: str, image: int, record_property: Note) -> None:
    """The cross-entropies of positives and of the hardest negatives, and the cut maps of the positives."""
    _, arrays, _, output, _, targets, _ = step_of(name)
    logits = torch.cat([each_anchor(level)[image] for level in output.head.class_logits]).detach()
    labels, index = targets.labels[image], targets.instance_index[image]
    each = F.cross_entropy(logits, labels.clamp(min=0), reduction="none")
    positive = (index >= 0).nonzero()[:, 0]
    negatives = arrays[f"ohem_neg_anchor.{image}"].astype(np.int64)
    assert (labels[torch.from_numpy(negatives)] == 80).all()
    apart = {
        "positives": relative(each[positive], arrays[f"pos_ce.{image}"]),
        "negatives": relative(each[torch.from_numpy(negatives)], arrays[f"ohem_neg_ce.{image}"]),
    }
    total = float(arrays[f"pos_ce.{image}"].sum() + arrays[f"ohem_neg_ce.{image}"].sum())
    apart["class"] = abs(float(class_loss(logits, labels)) / total - 1)
    coefficients = torch.cat([each_anchor(level)[image] for level in output.head.coefficients])[positive].detach()
    maps = mix_prototypes(output.prototypes[image].detach(), coefficients)
    cut = maps * box_cells(targets.boxes[index[positive]], (SIDE, SIDE), (138, 138))
    apart["maps"] = relative(cut.double().sum((1, 2)), arrays[f"mask_pred_sum.{image}"])
    for part, value in apart.items():
        record_property(part, value)
    assert max(apart.values()) <= 1e-5, apart


def relative(mine: Tensor, recorded: Any) -> float:
    return float(np.abs(mine.numpy() - recorded).max() / np.abs(recorded).max())


@pytest.mark.parametrize("name", CASES)
def test_losses(step_of: Callable[[str], Step], name: str, record_property: Note) -> None:
    step = step_of(name)
    counts = count_anchors(step.targets, CONFIG)
    assert int(counts.positives) == step.recorded["avg_factor"]
    check_losses(step.losses, step.recorded["losses"], record_property)


def check_losses(losses: Losses, recorded: dict[str, float], note: Note) -> None:
    found = {name: float(getattr(losses, name).detach()) for name in TERMS}
    for name, term in TERMS.items():
        note(name, abs(found[name] - recorded[term]) / max(recorded[term], 1e-6))
        assert found[name] == pytest.approx(recorded[term], rel=1e-5, abs=1e-9), name
    assert float(torch.stack(list(losses)).sum().detach()) == pytest.approx(recorded["loss"], rel=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_gradients(step_of: Callable[[str], Step], name: str, record_property: Note) -> None:
    step = step_of(name)
    recorded = step.recorded["grad"]
    gradients = {source_names(own)[0]: parameter.grad for own, parameter in step.model.named_parameters()}
    assert gradients.keys() == recorded.keys()
    worst = {"backbone": 0.0, "neck and heads": 0.0, "whole": 0.0}
    total = 0.0
    for key, (norm, *_) in recorded.items():
        gradient = gradients[key]
        assert gradient is not None
        found = float(gradient.double().norm())
        total += found**2
        part = "backbone" if key.startswith("backbone.") else "neck and heads"
        worst[part] = max(worst[part], abs(found / norm - 1))
        if f"grad:{key}" in step.arrays:
            whole = step.arrays[f"grad:{key}"]
            deviation = np.linalg.norm(gradient.numpy() - whole) / np.linalg.norm(whole)
            worst["whole"] = max(worst["whole"], float(deviation))
    worst["total"] = abs(total**0.5 / step.recorded["grad_norm_total"] - 1)
    for part, value in worst.items():
        record_property(part, value)
    assert worst["backbone"] <= 3e-3
    assert worst["total"] <= 1e-4
    assert worst["neck and heads"] <= 5e-4
    assert worst["whole"] <= 1e-3


def test_running_statistics(step_of: Callable[[str], Step], record_property: Note) -> None:
    step = step_of("yolact_bnbatch")
    buffers = {f"after:{source_names(own)[0]}": values for own, values in step.model.named_buffers()}
    keys = [key for key in step.arrays if key.startswith("after:")]
    assert len(keys) == 4
    worst = max(relative(buffers[key], step.arrays[key]) for key in keys)
    record_property("relative", worst)
    assert worst <= 1e-5


@pytest.mark.parametrize("name", EDGES)
def test_edges(folder: Path, state: dict[str, Tensor], name: str, record_property: Note) -> None:
    """Images without objects, and more positives than masks that are trained: the generator draws the same 100."""
    recorded = read_json(folder, "yolact__edge.json")[name]
    model = build(state).train()
    model.backbone.eval()
    truths = tuple(make_truth(scene) for scene in recorded["scenes"])
    _, targets, losses = learn(model, recorded["scenes"], truths)
    assert (targets.instance_index >= 0).sum(dim=1).tolist() == recorded["positives"]
    check_losses(losses, recorded["losses"], record_property)
    if name == "both_empty":  # every parameter keeps a gradient, which processes share
        torch.stack(list(losses)).sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())

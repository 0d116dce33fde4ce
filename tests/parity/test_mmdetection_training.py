"""One training step of mmdetection's CondInst, its weights filled by formula: positives, losses, gradient norms.

The recorded numbers lie in ../shared/reference/mmdetection; each test's largest deviations are its recorded properties.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from condinst.config import Config
from condinst.data.batch import Batch, make_images
from condinst.data.sample import Instance, RunLengths, Sample
from condinst.data.truth import draw_truth
from condinst.engine.losses import prepare, step_losses
from condinst.engine.processes import make_accelerator
from condinst.model.condinst import CondInst
from condinst.structures import STRIDES
from condinst.training.targets import assign
from condinst.weights.published.convert import Published, find_layout, read_published

CASES = {
    "batch statistics": "train_mode(mask-branch BN uses batch stats; backbone BN eval)",
    "frozen norms": "train_mode_allBN_frozen(running stats everywhere)",
}
TERMS = {"classification": "loss_cls", "box": "loss_bbox", "quality": "loss_centerness", "mask": "loss_mask"}
HEIGHT, WIDTH = 256, 320
PLACES = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)  # y and x of each pixel
IDENTITY = np.array([[1.0, 0, 0], [0, 1, 0]])
Note = Callable[[str, object], None]


class Step(NamedTuple):
    """What ours makes of a case after one backward pass, and what was recorded. Gradients by their published names."""

    recorded: dict[str, Any]
    losses: dict[str, float]
    gradients: dict[str, Tensor]
    moved: set[str]  # buffers that the forward pass changed


@pytest.fixture(scope="module")
def records(reference: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((reference / "mmdetection" / "losses.json").read_text())
    return found


@pytest.fixture(scope="module")
def published(mmdetection_state: dict[str, Tensor]) -> Published:
    return read_published(mmdetection_state, "mmdetection")


@pytest.fixture(scope="module")
def batch(records: dict[str, Any], published: Published) -> Batch:
    model = published.config.model
    images = make_images(
        [picture(phase) for phase in records["phases"]],
        [(HEIGHT, WIDTH)] * 2,
        model.pixel_mean,
        model.pixel_std,
        model.channel_order,
        model.size_divisor,
    )
    samples = [
        read_sample(shapes, boxes) for shapes, boxes in zip(records["spec"].values(), records["boxes"], strict=True)
    ]
    stride = model.mask_head.mask_out_stride
    return Batch(images, tuple(draw_truth(sample, IDENTITY, HEIGHT, WIDTH, stride) for sample in samples))


@pytest.fixture(scope="module", params=CASES)
def step(
    request: pytest.FixtureRequest,
    records: dict[str, Any],
    mmdetection_state: dict[str, Tensor],
    published: Published,
    batch: Batch,
) -> Step:
    config = published.config
    model = CondInst(config.model).train()
    model.load_state_dict(published.tensors)
    if request.param == "frozen norms":
        assert model.mask_branch is not None
        model.mask_branch.eval()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    accelerator = make_accelerator(config)
    (part,) = prepare([batch], config, accelerator)
    losses = step_losses(model, part, torch.Generator(), 0, config, accelerator)
    torch.stack(list(losses.values())).sum().backward()
    gradients: dict[str, Tensor] = {}
    for name, weight in model.named_parameters():
        if weight.grad is not None:
            sources = find_layout(mmdetection_state).source_names(name)
            parts = weight.grad.split(1) if len(sources) > 1 else [weight.grad]
            gradients |= dict(zip(sources, parts, strict=True))
    return Step(
        records[CASES[request.param]],
        {name: float(loss.detach()) for name, loss in losses.items()},
        gradients,
        {name for name, buffer in model.named_buffers() if not torch.equal(buffer, before[name])},
    )


def picture(phase: float) -> NDArray[np.uint8]:
    y, x = PLACES
    channels = [
        127.5
        + 60 * np.sin(2 * np.pi * y / (41 + 6 * c) + c + phase)
        + 50 * np.cos(2 * np.pi * x / (53 + 4 * c) + 2 * c + phase)
        + 15 * np.sin(2 * np.pi * (x + 2 * y) / (17 + c))
        for c in range(3)
    ]
    return np.stack([np.floor(channel).clip(0, 255) for channel in channels], axis=-1).astype(np.uint8)


def read_sample(shapes: list[Any], boxes: list[Any]) -> Sample:
    instances = [
        Instance(label, tuple(box), RunLengths.of(draw(kind, numbers), 0, 0), False, number)
        for number, ((kind, label, numbers), box) in enumerate(zip(shapes, boxes, strict=True))
    ]
    return Sample(Path("recorded"), 0, WIDTH, HEIGHT, tuple(instances))


def draw(kind: str, numbers: list[float]) -> NDArray[np.uint8]:
    y, x = PLACES
    if kind == "ell":
        cx, cy, rx, ry = numbers
        inside = ((x + 0.5 - cx) / rx) ** 2 + ((y + 0.5 - cy) / ry) ** 2 <= 1
    elif kind == "tri":
        x0, y0, side = numbers
        inside = (x >= x0) & (y >= y0) & (x - x0 + y - y0 < side)
    else:
        x0, y0, x1, y1 = numbers
        inside = (x >= x0) & (y >= y0) & (x < x1) & (y < y1)
    drawn: NDArray[np.uint8] = inside.astype(np.uint8)
    return drawn


def test_the_picture_and_the_shapes_are_the_recorded_ones(records: dict[str, Any], reference: Path) -> None:
    recorded = np.load(reference / "mmdetection" / "golden.npz")["input_u8"]
    assert np.array_equal(picture(0.0), recorded.transpose(1, 2, 0))
    areas = [[int(draw(kind, numbers).sum()) for kind, _, numbers in shapes] for shapes in records["spec"].values()]
    assert areas == records["mask_areas"]


def test_positives(batch: Batch, published: Published, records: dict[str, Any]) -> None:
    config: Config = published.config
    targets = assign(
        batch.truths,
        [(math.ceil(HEIGHT / stride), math.ceil(WIDTH / stride)) for stride in STRIDES],
        config.model.size_ranges,
        len(config.model.classes),
        config.targets.center_radius,
    )
    first = 0
    for image, index in enumerate(targets.instance_index):
        positive = (index >= 0).nonzero()[:, 0]
        assert positive.tolist() == records["pos_inds"][image]
        assert (index[positive] - first).tolist() == records["pos_gt_inds"][image]
        first += len(batch.truths[image].boxes)


def test_losses(step: Step, record_property: Note) -> None:
    expected = step.recorded["losses"]
    mine = {TERMS[name]: loss for name, loss in step.losses.items() if name in TERMS or loss}
    for name, loss in mine.items():
        record_property(name, abs(loss / expected[name] - 1))
    assert mine == pytest.approx(expected, rel=1e-4)


def test_gradient_norms(step: Step, record_property: Note) -> None:
    """As many tensors learn, and the norms of the recorded ones' gradients."""
    expected = step.recorded["grad_norm"]
    assert len(step.gradients) == step.recorded["n_grads"]
    mine = {name: float(step.gradients[name].double().norm()) for name in expected}
    record_property("norm of a gradient", max(abs(mine[name] / norm - 1) for name, norm in expected.items() if norm))
    assert mine == pytest.approx(expected, rel=1e-3, abs=0)


def test_the_backbone_keeps_its_statistics_and_learns_its_scales(step: Step, request: pytest.FixtureRequest) -> None:
    """Stem and first stage are fixed, norms and all; of the other stages' norms only the statistics are."""
    moving = "batch statistics" in request.node.name
    assert {name.split(".")[0] for name in step.moved} == ({"mask_branch"} if moving else set())
    learning = {name for name in step.gradients if name.startswith("backbone.")}
    assert not any(name.startswith(("backbone.conv1", "backbone.bn1", "backbone.layer1")) for name in learning)
    assert {f"backbone.layer2.0.bn1.{part}" for part in ("weight", "bias")} <= learning

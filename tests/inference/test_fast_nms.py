"""Fast NMS, compared with its definition in loops, and the detections that it makes of YOLACT's output."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from condinst.inference.yolact import detect as module
from condinst.inference.yolact.detect import detect_anchors
from condinst.inference.yolact.fast_nms import fast_nms
from condinst.methods.choose import build_network
from condinst.model.yolact import Yolact, YolactOutput
from condinst.recipes import load_recipe
from condinst.settings.model import ModelConfig

RECIPE = load_recipe("yolact-r50")
SMALL = {"backbone": {"name": "resnet18", "norm": "batch", "frozen_stages": 0}, "fpn_channels": 16}


def slow_nms(boxes: Tensor, scores: Tensor, threshold: float, lowest: float, per_class: int) -> set[tuple[int, int]]:
    kept = set()
    for label in range(scores.shape[1]):
        order = scores[:, label].argsort(descending=True, stable=True)[:per_class].tolist()
        for place, row in enumerate(order):
            better = order[:place]  # kept or not
            overlaps = box_iou(boxes[[row]], boxes[better])[0] if better else torch.zeros(1)
            if scores[row, label] > lowest and overlaps.max() <= threshold:
                kept.add((row, label))
    return kept


@pytest.mark.parametrize("per_class", [200, 7])
@pytest.mark.parametrize("seed", range(4))
def test_fast_nms(seed: int, per_class: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(60, 2, generator=generator) * 60
    boxes = torch.cat((corners, corners + 10 + 40 * torch.rand(60, 2, generator=generator)), dim=1)
    scores = torch.rand(60, 5, generator=generator).pow(3)
    scores[:, 4] = 0.01
    found = fast_nms(boxes, scores, 0.4, 0.05, per_class)
    pairs = list(zip(found.rows.tolist(), found.labels.tolist(), strict=True))
    assert len(pairs) == len(set(pairs)) > 10
    assert set(pairs) == slow_nms(boxes, scores, 0.4, 0.05, per_class)
    assert torch.equal(found.scores, scores[found.rows, found.labels])


def test_a_dropped_box_still_drops_others() -> None:
    """The greedy rule would keep the third."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]])
    found = fast_nms(boxes, torch.tensor([[0.9], [0.8], [0.7]]), 0.4, 0.05, 200)
    assert found.rows.tolist() == [0]


def test_without_boxes() -> None:
    for shape in ((0, 3), (4, 3)):
        found = fast_nms(torch.zeros(shape[0], 4), torch.zeros(shape), 0.5, 0.05, 200)
        assert [len(part) for part in found] == [0, 0, 0]


@pytest.fixture(scope="module")
def model() -> ModelConfig:
    values = RECIPE.model.model_dump() | SMALL | {"classes": ("a", "b", "c")}
    values["head"] |= {"channels": 16}
    values["mask_branch"] |= {"channels": 16, "features": 8}
    return ModelConfig.model_validate(values)


@pytest.fixture(scope="module")
def output(model: ModelConfig) -> YolactOutput:
    torch.manual_seed(0)
    network = build_network(model).eval()
    assert isinstance(network, Yolact)
    with torch.inference_mode():
        network.head.class_logits.weight.mul_(4)
        return network(torch.randn(2, 3, 160, 160))


def test_other_classes_do_not_change_the_scores(output: YolactOutput, model: ModelConfig) -> None:
    """The softmax is over all classes, whichever are asked for."""
    settings = RECIPE.detect.model_copy(update={"max_detections": 10_000, "candidates_per_level": 10_000})
    for every, some in zip(
        detect_anchors(output, model, settings), detect_anchors(output, model, settings, (0, 2)), strict=True
    ):
        kept = every.labels != 1
        assert 0 < kept.sum() < len(kept)
        for one, other in zip(every, some, strict=True):
            assert torch.equal(one[kept], other)
        assert (every.scores.diff() <= 0).all()
        assert (every.scores > settings.score_threshold).all()


def test_limits(output: YolactOutput, model: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    few = detect_anchors(output, model, RECIPE.detect.model_copy(update={"max_detections": 3}))
    assert [len(found.scores) for found in few] == [3, 3]
    monkeypatch.setattr(module, "PER_CLASS", 1)
    one = detect_anchors(output, model, RECIPE.detect.model_copy(update={"max_detections": 1}))
    assert all(torch.equal(found.scores, best.scores[:1]) for found, best in zip(one, few, strict=True))

"""Targets and losses of YOLACT, against plain definitions, and their division over the parts of a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from condinst.config import Config
from condinst.data.batch import Batch, make_images
from condinst.engine.losses import prepare, step_losses
from condinst.engine.processes import make_accelerator
from condinst.model.yolact import Yolact
from condinst.ops.anchors import decode_boxes, encode_boxes, make_anchors
from condinst.ops.bitmaps.packed_masks import pack
from condinst.ops.locations import level_sizes
from condinst.recipes import load_recipe
from condinst.structures import STRIDES, Truth
from condinst.training.yolact.assign import assign_anchors, choose_anchors, count_anchors, match_anchors
from condinst.training.yolact.objective import class_loss, mask_losses
from tests.model.test_yolact import settings

SIDE = 160
CONFIG = load_recipe("yolact-r50").model_copy(update={"model": settings("a", "b", "c")})


def make_truth(boxes: list[list[int]], labels: list[int], masked: list[bool] | None = None, side: int = SIDE) -> Truth:
    """Each object is the filled left half of its box."""
    masks = torch.zeros(len(boxes), side, side, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0 : (x0 + x1) // 2] = True
    pixels, places = pack(masks)
    return Truth(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(labels, dtype=torch.int64),
        torch.zeros(len(boxes), 2),
        pixels,
        places,
        torch.full((side // 8, side // 8), -1),
        torch.tensor(masked or [True] * len(boxes), dtype=torch.bool),
    )


def test_anchors() -> None:
    anchors = make_anchors([(69, 69), (35, 35), (18, 18), (9, 9), (5, 5)])
    assert len(anchors) == 19_248
    x0, y0, x1, y1 = anchors[3 * (69 * 2 + 5)].tolist()  # the third row, the sixth column, the widest
    assert ((x0 + x1) / 2, (y0 + y1) / 2) == pytest.approx((5.5 * 550 / 69, 2.5 * 550 / 69))
    assert (x1 - x0, y1 - y0) == pytest.approx((24 * 2**0.5, 24 / 2**0.5))
    last = anchors[-1]
    assert (last[3] - last[1]).item() == pytest.approx(384 * 2**0.5)


def test_boxes_there_and_back() -> None:
    generator = torch.Generator().manual_seed(0)
    anchors = make_anchors(level_sizes(SIDE, SIDE, STRIDES))[::7]
    corners = torch.rand(len(anchors), 2, generator=generator) * 100
    boxes = torch.cat((corners, corners + 12 + torch.rand(len(anchors), 2, generator=generator) * 40), dim=1)
    assert torch.allclose(decode_boxes(anchors, encode_boxes(anchors, boxes), (SIDE, SIDE)), boxes, atol=1e-3)
    wild = decode_boxes(anchors, torch.full_like(boxes, 1e4), (SIDE, 300))
    assert wild.isfinite().all()
    assert (wild >= 0).all()
    assert wild[:, 0::2].max() == 300
    assert wild[:, 1::2].max() == SIDE


@pytest.mark.parametrize("seed", range(4))
def test_matching(seed: int) -> None:
    """In loops, as the rule is written."""
    generator = torch.Generator().manual_seed(seed)
    anchors = make_anchors(level_sizes(SIDE, SIDE, STRIDES))
    corners = torch.rand(9, 2, generator=generator) * 100
    boxes = torch.cat((corners, corners + 4 + torch.rand(9, 2, generator=generator) * 90), dim=1)
    boxes[7] = boxes[6]  # the later one takes the best anchor
    overlap = box_iou(boxes, anchors)
    expected = []
    for column in overlap.T:
        best = int(column.argmax())
        expected.append(best if column[best] >= 0.5 else -1 if column[best] < 0.4 else -2)
    for instance, row in enumerate(overlap):
        expected[int(row.argmax())] = instance
    found = match_anchors(anchors, boxes)
    assert found.tolist() == expected
    assert {-2, -1, 0, 7} <= set(expected)
    assert match_anchors(anchors, boxes[:0]).tolist() == [-1] * len(anchors)


def test_class_loss() -> None:
    """In plain arithmetic: all positives, and three times as many of the hardest negatives."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 4, generator=generator) * 3
    labels = torch.full((50,), 3)
    labels[:5], labels[5:9] = torch.tensor([0, 2, 1, 1, 0]), -1
    losses = -logits.double().log_softmax(dim=1)
    positive = sum(float(losses[row, labels[row]]) for row in range(5))
    negative = sorted(losses[9:, 3].tolist(), reverse=True)
    assert float(class_loss(logits, labels)) == pytest.approx(positive + sum(negative[:15]), rel=1e-6)
    labels[:9] = 3
    assert float(class_loss(logits, labels)) == pytest.approx(float(losses[:, 3].sum()), rel=1e-6)


def test_mask_loss() -> None:
    """A pixel of the mask outside of the cut costs 100, and has no gradient."""
    maps = torch.full((1, 20, 20), 0.25, requires_grad=True)
    masks = torch.zeros(1, 20, 20, dtype=torch.bool)
    masks[0, 5, 5] = masks[0, 19, 19] = True
    loss = mask_losses(maps, masks, torch.tensor([[20.0, 20, 60, 40]]), (80, 80))
    # the box in cells is (5, 5, 15, 10), and 12 columns by 7 rows with its margin
    inside = 83 * -np.log(0.75) - np.log(0.25)
    assert loss.item() == pytest.approx((inside + 100) / 400 / (40 / 80) / (20 / 80), rel=1e-6)
    loss.sum().backward()
    assert maps.grad is not None
    assert int((maps.grad != 0).sum()) == 84
    assert maps.grad.isfinite().all()


def test_targets() -> None:
    truths = (make_truth([[10, 20, 90, 100], [30, 30, 62, 62]], [2, 0]), make_truth([], []))
    targets = assign_anchors(None, truths, (SIDE, SIDE), CONFIG)
    assert targets.drawn.tolist() == [True, False]
    assert (targets.labels[1] == 3).all()
    assert targets.masks.shape == (2, 40, 40)
    assert targets.masks[0, 10, 5:12].all()  # pixels 20 to 48 of row 40
    counts = count_anchors(targets, CONFIG)
    positives = int((targets.instance_index >= 0).sum())
    assert (int(counts.positives), int(counts.masks), int(counts.semantic)) == (positives + 1, positives, 2 * 20 * 20)
    assert targets.semantic[0].any((1, 2)).tolist() == [False, True, True]  # class 2 in channel 1, class 0 in the last
    assert not targets.semantic[1].any()


def test_boxes_without_masks_train_no_masks() -> None:
    truths = (make_truth([[10, 20, 90, 100], [30, 30, 62, 62]], [2, 0], [True, False]),)
    targets = assign_anchors(None, truths, (SIDE, SIDE), CONFIG)
    chosen = choose_anchors(targets, 0, 1000, None)
    assert set(targets.instance_index[0][chosen].tolist()) == {0}
    assert (targets.instance_index[0] == 1).any()
    assert int(count_anchors(targets, CONFIG).masks) == len(chosen)
    assert targets.semantic[0].any((1, 2)).tolist() == [False, True, False]
    few = choose_anchors(targets, 0, 2, torch.Generator().manual_seed(1))
    again = choose_anchors(targets, 0, 2, torch.Generator().manual_seed(1))
    assert len(few) == 2
    assert few.tolist() == again.tolist()
    assert set(few.tolist()) < set(chosen.tolist())


def batch_of(*truths: Truth) -> Batch:
    rng = np.random.default_rng(len(truths))
    pictures = [rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8) for _ in truths]
    look: Any = (CONFIG.model.pixel_mean, CONFIG.model.pixel_std, "RGB", 1)
    return Batch(make_images(pictures, [(SIDE, SIDE)] * len(truths), *look), truths)


def test_parts_of_a_batch_have_the_loss_of_the_whole() -> None:
    """The mean over the parts, with divisors of all of them."""
    truths = (
        make_truth([[10, 20, 90, 100], [30, 30, 62, 62]], [2, 0]),
        make_truth([], []),
        make_truth([[50, 40, 150, 155]], [1]),
    )
    whole = batch_of(*truths)
    tensor, sizes = whole.images.tensor, whole.images.sizes
    parts = [
        Batch(whole.images._replace(tensor=tensor[part], sizes=sizes[part], original_sizes=sizes[part]), truths[part])
        for part in (slice(0, 2), slice(2, 3))
    ]
    config: Config = CONFIG
    torch.manual_seed(0)
    model = Yolact(config.model).train()
    model.backbone.eval()
    accelerator = make_accelerator(config)

    def losses(batches: list[Batch]) -> dict[str, Tensor]:
        ready = prepare(batches, config, accelerator)
        found = [step_losses(model, one, torch.Generator().manual_seed(0), 0, config, accelerator) for one in ready]
        return {name: torch.stack([one[name] for one in found]).mean().detach() for name in found[0]}

    one, several = losses([whole]), losses(parts)
    for name, value in one.items():
        assert float(several[name]) == pytest.approx(float(value), rel=1e-4), name
    assert all(float(one[name]) > 0 for name in ("classification", "box", "mask", "semantic"))

"""Suppression of duplicates against brute force in float64, written from the definitions."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from condinst.inference.select import (
    PRODUCT_ROUNDS,
    KeepBoxes,
    best,
    box_nms,
    keep_boxes,
    keep_boxes_by_products,
    mask_iou,
    mask_nms,
    matrix_nms,
)

KEEP = partial(keep_boxes, classes=4)


def iou(a: Tensor, b: Tensor) -> float:
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 0.0


def box_iou(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inter = max(width, 0) * max(height, 0)
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def random_masks(count: int, seed: int, side: int = 24) -> Tensor:
    """Discs of few places and sizes, so that many overlap a lot."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    cx, cy, r = rng.integers(5, side - 5, count), rng.integers(5, side - 5, count), rng.integers(2, 9, count)
    return torch.from_numpy(np.stack([np.hypot(x - a, y - b) <= c for a, b, c in zip(cx, cy, r, strict=True)]))


def test_mask_iou_by_counting() -> None:
    masks = torch.cat((random_masks(12, 0), torch.zeros(2, 24, 24, dtype=torch.bool)))
    expected = [[iou(a, b) for b in masks] for a in masks]
    assert torch.allclose(mask_iou(masks), torch.tensor(expected), atol=1e-7)


def test_mask_iou_of_more_pixels_than_fit_at_once() -> None:
    masks = torch.rand(3, 130, 200, generator=torch.Generator().manual_seed(0)) < 0.5
    assert mask_iou(masks)[0, 2].item() == pytest.approx(iou(masks[0], masks[2]), abs=1e-7)


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.6])
def test_mask_nms_is_greedy_within_each_class(threshold: float) -> None:
    masks, labels = random_masks(40, 1), torch.arange(40) % 3
    kept: list[int] = []
    for row in range(40):
        rivals = [other for other in kept if labels[other] == labels[row]]
        if all(iou(masks[other], masks[row]) <= threshold for other in rivals):
            kept.append(row)
    assert 3 < len(kept) < 40
    assert mask_nms(masks, labels, threshold).tolist() == kept


def test_matrix_nms_by_its_definition() -> None:
    masks, labels = random_masks(30, 2), torch.arange(30) % 2
    scores = torch.linspace(0.95, 0.1, 30)
    expected = []
    for j in range(30):
        factor = 1.0
        for i in range(j):
            if labels[i] != labels[j]:
                continue
            rivals = [iou(masks[k], masks[i]) for k in range(i) if labels[k] == labels[i]]
            covered = max(rivals, default=0.0)
            factor = min(factor, math.exp(-2 * iou(masks[i], masks[j]) ** 2) / math.exp(-2 * covered**2))
        expected.append(float(scores[j]) * factor)
    decayed = matrix_nms(masks, scores, labels)
    assert torch.allclose(decayed, torch.tensor(expected), atol=1e-6)
    assert (decayed < 0.7 * scores).any()


def test_matrix_nms_leaves_the_best_and_strangers_alone() -> None:
    masks = random_masks(1, 0).repeat(3, 1, 1)
    scores = torch.tensor([0.9, 0.8, 0.7])
    assert matrix_nms(masks, scores, torch.tensor([0, 1, 2])).tolist() == scores.tolist()
    assert matrix_nms(masks, scores, torch.tensor([0, 0, 1]))[1].item() == pytest.approx(0.8 * math.exp(-2))


def test_box_nms_keeps_classes_apart_even_outside_the_image() -> None:
    """Boxes reach below zero before they are clipped; shifted by class, they must not meet the neighbour's."""
    generator = torch.Generator().manual_seed(3)
    corner = torch.rand(150, 2, generator=generator) * 120 - 90
    boxes = torch.cat((corner, corner + 20 + torch.rand(150, 2, generator=generator) * 60), dim=1)
    scores, labels = torch.rand(150, generator=generator), torch.arange(150) % 5
    kept: list[int] = []
    for row in scores.argsort(descending=True).tolist():
        rivals = [other for other in kept if labels[other] == labels[row]]
        if all(box_iou(boxes[other].tolist(), boxes[row].tolist()) <= 0.5 for other in rivals):
            kept.append(row)
    assert 20 < len(kept) < 150
    assert box_nms(boxes, scores, labels, 0.5).tolist() == kept


def crowd(images: int, count: int, classes: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes that overlap a lot, partly outside the image, some of equal scores; every third row holds none."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(images, count, 2, generator=generator) * 90 - 60
    boxes = torch.cat((corner, corner + 20 + torch.rand(images, count, 2, generator=generator) * 60), dim=2)
    scores = (torch.rand(images, count, generator=generator) * 20).round() / 20
    scores[:, ::3] = -1
    return boxes, scores, torch.randint(classes, (images, count), generator=generator)


def greedy(boxes: list[list[float]], scores: list[float], labels: list[int], threshold: float) -> list[bool]:
    """Greedy NMS of one image in Python's floats. The row with the lower index is the better one of equal scores."""
    kept: list[int] = []
    for row in sorted((row for row, score in enumerate(scores) if score >= 0), key=lambda row: (-scores[row], row)):
        if all(box_iou(boxes[other], boxes[row]) <= threshold for other in kept if labels[other] == labels[row]):
            kept.append(row)
    return [row in kept for row in range(len(scores))]


@pytest.mark.parametrize("keep", [KEEP, keep_boxes_by_products])
@pytest.mark.parametrize(("classes", "threshold"), [(1, 0.5), (4, 0.3), (4, 0.6), (2, 0.0), (2, 1.0)])
def test_keep_boxes_is_greedy_in_each_image(keep: KeepBoxes, classes: int, threshold: float) -> None:
    boxes, scores, labels = crowd(3, 90, classes, seed=classes)
    found = keep(boxes, scores, labels, threshold)
    expected = [greedy(*(field[image].tolist() for field in (boxes, scores, labels)), threshold) for image in range(3)]
    assert found.tolist() == expected
    assert all(0 < sum(row) <= 60 for row in expected)


@pytest.mark.parametrize("keep", [KEEP, keep_boxes_by_products])
def test_keep_boxes_without_boxes(keep: KeepBoxes) -> None:
    boxes, scores, labels = crowd(2, 6, 2, seed=0)
    assert keep(boxes[:, :0], scores[:, :0], labels[:, :0], 0.5).shape == (2, 0)
    scores[1] = -1
    found = keep(boxes, scores, labels, 0.5)
    assert found[0].any()
    assert not found[1].any()


@pytest.mark.parametrize("keep", [KEEP, keep_boxes_by_products])
def test_a_box_without_area_suppresses_nothing(keep: KeepBoxes) -> None:
    boxes = torch.tensor([[[4.0, 4, 4, 9], [4, 4, 4, 9], [0, 0, 9, 9]]])
    assert keep(boxes, torch.tensor([[0.9, 0.8, 0.7]]), torch.zeros(1, 3, dtype=torch.long), 0.0).all()


def test_keep_boxes_by_products_follows_chains() -> None:
    """Each box suppresses the next one alone. Every second box stays, and the rounds reach the end of the chain."""
    left = torch.arange(float(PRODUCT_ROUNDS)) * 4
    boxes = torch.stack((left, torch.zeros_like(left), left + 10, torch.full_like(left, 10)), dim=1)[None]
    scores = torch.linspace(0.9, 0.1, PRODUCT_ROUNDS)[None]
    labels = torch.zeros_like(scores, dtype=torch.long)
    expected = [row % 2 == 0 for row in range(PRODUCT_ROUNDS)]
    assert keep_boxes_by_products(boxes, scores, labels, 0.4)[0].tolist() == expected
    assert keep_boxes(boxes, scores, labels, 0.4, 1)[0].tolist() == expected


def test_keep_boxes_is_a_proper_operation() -> None:
    """The form without values, which exporters use, agrees with the operation, also for free sizes."""
    torch.library.opcheck(keep_boxes, (*crowd(2, 12, 2, seed=1), 0.5, 2))
    torch.library.opcheck(keep_boxes, (*crowd(1, 0, 2, seed=1), 0.5, 2))


def test_small_boxes_of_a_late_class_keep_their_precision() -> None:
    """Two boxes of IoU 0.5 in class 999: a shift in float32 would round them."""
    box = torch.tensor([[1000.03, 10.01, 1003.03, 12.01], [1000.03, 10.01, 1003.03, 14.01]])
    assert len(box_nms(box, torch.tensor([0.9, 0.8]), torch.tensor([999, 999]), 0.51)) == 2
    assert len(box_nms(box, torch.tensor([0.9, 0.8]), torch.tensor([999, 999]), 0.49)) == 1


def test_nothing_in_nothing_out() -> None:
    none, labels = torch.zeros(0, 4, 4, dtype=torch.bool), torch.zeros(0, dtype=torch.long)
    assert len(box_nms(torch.zeros(0, 4), torch.zeros(0), labels, 0.5)) == 0
    assert len(mask_nms(none, labels, 0.5)) == 0
    assert len(matrix_nms(none, torch.zeros(0), labels)) == 0
    assert len(best(torch.zeros(0), 5)) == 0


def test_best_keeps_ties_with_the_last() -> None:
    scores = torch.tensor([0.2, 0.5, 0.9, 0.5, 0.5, 0.1])
    assert best(scores, 2).tolist() == [2, 1, 3, 4]
    assert best(scores, 4).tolist() == [2, 1, 3, 4]
    assert best(scores, 5).tolist() == [2, 1, 3, 4, 0]
    assert best(scores, 9).tolist() == [2, 1, 3, 4, 0, 5]


@pytest.mark.parametrize("most", [1, 3, 10, 1000])
@pytest.mark.parametrize("levels", [4, 1000])  # how many different scores there are
def test_box_nms_may_stop_early(most: int, levels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives the best of all boxes that are kept, and those that tie with the last one."""
    monkeypatch.setattr("condinst.inference.select.FIRST_BOXES", 2)
    draw = torch.Generator().manual_seed(most)
    corners = torch.rand(600, 2, generator=draw) * 90
    boxes = torch.cat((corners, corners + 5 + torch.rand(600, 2, generator=draw) * 30), dim=1)
    scores = (torch.rand(600, generator=draw) * levels).ceil() / levels
    labels = torch.randint(0, 3, (600,), generator=draw)
    everything = box_nms(boxes, scores, labels, 0.4)
    assert 10 < len(everything) < 500
    some = box_nms(boxes, scores, labels, 0.4, most)
    assert some.tolist() == everything[: len(some)].tolist()
    needed = everything[scores[everything] >= scores[everything[min(most, len(everything)) - 1]]]
    assert some[: len(needed)].tolist() == needed.tolist()

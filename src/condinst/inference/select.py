"""Suppression of duplicates: box NMS, mask NMS and Matrix NMS.

Shapes: K candidates of one image, best first. Of equal scores, the first candidate counts as the better one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import nms

# boxes (N, K, 4), scores (N, K), labels (N, K) and a threshold → the kept boxes, (N, K) bool
KeepBoxes = Callable[[Tensor, Tensor, Tensor, float], Tensor]
FIRST_BOXES = 4  # times the wanted number of boxes that are compared at first
PRODUCT_ROUNDS = 32  # the pictures of the shipped models need at most 6
PIXELS_AT_ONCE = 8192  # mask pixels converted to floats at a time; bounds the memory of the pairwise overlaps


def box_nms(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float, most: int | None = None) -> Tensor:
    """Greedy NMS within each class: drop a box if its IoU with a better, kept box is above `threshold`.

    boxes: (K, 4) xyxy; they may reach outside the image. scores: (K,). labels: (K,) int64. Returns the indices of the
    kept boxes, int64, best first. most: the caller needs the best `most` and those that tie with the last of them. So
    the function stops after a few times as many boxes, because a worse box never affects a better one.
    """
    if not len(boxes):
        return labels
    device = torch.device("cpu") if boxes.device.type == "mps" else boxes.device
    order = scores.to(device).argsort(descending=True, stable=True)
    apart, scores_there = _apart(boxes.to(device).double(), labels.to(device)), scores.to(device)
    count = len(boxes) if most is None else FIRST_BOXES * most
    while True:
        rows = order[:count]
        kept: Tensor = rows[nms(apart[rows], scores_there[rows].double(), threshold)]
        enough = most is not None and len(kept) >= most and scores_there[kept[most - 1]] > scores_there[rows[-1]]
        if enough or count >= len(boxes):
            return kept.to(boxes.device)
        count *= FIRST_BOXES


def _apart(boxes: Tensor, labels: Tensor) -> Tensor:
    """Boxes (K, 4) float64, moved so that those of different classes do not overlap.

    The steps are powers of two, so no coordinate that was a float32 is rounded.
    """
    low, high = boxes.min(), boxes.max()
    step = 2.0 ** (high - low + 1).log2().ceil()
    return boxes + (labels.double() * step - low)[:, None]


@torch.library.custom_op("condinst::keep_boxes", mutates_args=())
def keep_boxes(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float, classes: int) -> Tensor:
    """`box_nms` in each of N images, as one operation that an exporter can translate.

    boxes: (N, K, 4). scores: (N, K), below 0 where there is no box. labels: (N, K) int64, below `classes`, which gives
    the translation a fixed shape. Returns the kept boxes, (N, K) bool.
    """
    kept = torch.zeros_like(scores, dtype=torch.bool)
    for row, boxes_, scores_, labels_ in zip(kept, boxes, scores, labels, strict=True):
        real = (scores_ >= 0).nonzero()[:, 0]
        row[real[box_nms(boxes_[real], scores_[real], labels_[real], threshold)]] = True
    return kept


@keep_boxes.register_fake
def _(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float, classes: int) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)


def keep_boxes_by_products(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """`keep_boxes` in tensor operations of fixed shapes alone, for runtimes without an operation for NMS.

    A box is kept if no better, kept box suppresses it. The function applies this rule to all boxes at once, beginning
    with all kept. After n rounds the answer is right for every box that ends a chain of at most n suppressions, so
    after PRODUCT_ROUNDS rounds only a chain that is longer could be wrong.
    """
    areas = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    sides = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:]) - torch.maximum(
        boxes[:, :, None, :2], boxes[:, None, :, :2]
    )
    overlap = sides.clamp(min=0).prod(dim=-1)
    union = areas[:, :, None] + areas[:, None, :] - overlap
    first = torch.arange(scores.shape[1], device=scores.device)
    better = (scores[:, :, None] > scores[:, None, :]) | (
        (scores[:, :, None] == scores[:, None, :]) & (first[:, None] < first[None, :])
    )
    same = labels[:, :, None] == labels[:, None, :]
    suppresses = ((overlap > threshold * union) & better & same).to(boxes.dtype)  # row suppresses column
    real = (scores >= 0).to(boxes.dtype)
    kept = real
    for _ in range(PRODUCT_ROUNDS):
        kept = real * ((kept[:, None, :] @ suppresses)[:, 0] < 0.5).to(boxes.dtype)
    return kept > 0.5


def mask_iou(masks: Tensor) -> Tensor:
    """IoU (K, K) float32 of all pairs of bitmaps (K, h, w) bool. Two empty bitmaps have IoU 0."""
    flat = masks.flatten(1)
    overlap = torch.zeros(len(masks), len(masks), device=masks.device)
    for pixels in torch.split(flat, PIXELS_AT_ONCE, dim=1):
        part = pixels.float()
        overlap += part @ part.T
    areas = overlap.diagonal()
    union = areas[:, None] + areas[None, :] - overlap
    return overlap / union.clamp(min=1)


def mask_nms(masks: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """Greedy NMS by mask IoU within each class, on candidates sorted best first.

    masks: (K, h, w) bool. labels: (K,) int64. Returns the indices of the kept masks, ascending, so best first.
    """
    same = labels[:, None] == labels[None, :]
    suppresses = ((mask_iou(masks) > threshold) & same).cpu().numpy()
    kept = np.ones(len(masks), dtype=bool)
    for row in range(len(masks)):
        if kept[row]:
            kept[row + 1 :] &= ~suppresses[row, row + 1 :]
    return torch.from_numpy(kept.nonzero()[0]).to(masks.device)


def matrix_nms(masks: Tensor, scores: Tensor, labels: Tensor, sigma: float = 2.0) -> Tensor:
    """Matrix NMS (SOLOv2): lower each score by the overlap with better candidates of the same class.

    masks: (K, h, w) bool and scores: (K,), best first. labels: (K,) int64. The score of candidate j is multiplied by
    the minimum over all better i of exp(−σ·iou(i, j)²) / exp(−σ·m(i)²), where m(i) is the largest IoU of i with a
    candidate better than i. Returns the new scores (K,), in the given order.
    """
    if not len(masks):
        return scores
    same = labels[:, None] == labels[None, :]
    iou = (mask_iou(masks) * same).triu(diagonal=1)  # row i is the better candidate
    covered = iou.amax(dim=0)
    decay = torch.exp(-sigma * (iou.square() - covered.square()[:, None]))
    decay = torch.where(iou > 0, decay, 1.0)  # without overlap, i has no effect on j
    return scores * decay.amin(dim=0).clamp(max=1)


def best(scores: Tensor, limit: int) -> Tensor:
    """Indices of the `limit` highest scores (K,), best first. Candidates that tie with the last one are kept, too."""
    order = scores.argsort(descending=True, stable=True)
    if len(order) <= limit:
        return order
    return order[scores[order] >= scores[order[limit - 1]]]

"""Which of overlapping candidates stay: box NMS, mask NMS, Matrix NMS. Plain functions on one image.

K candidates, best first; ties keep their order, the first counting as the better one. P mask pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import batched_nms

PIXELS_AT_ONCE = 8192  # mask pixels turned to floats at a time: bounds the memory of the pairwise overlaps


def box_nms(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """Greedy NMS within each class; a box goes if its IoU with a better kept one is above `threshold`.

    boxes: (K, 4) xyxy, may reach outside the image. scores: (K,). labels: (K,) int64. Returns kept indices, best first.
    """
    if not len(boxes):
        return labels
    # torchvision sets classes apart by shifting their boxes; negative coordinates would reach into the neighbour's
    # band and float32 loses the small boxes of late classes, so shift to zero first and work in float64.
    device = torch.device("cpu") if boxes.device.type == "mps" else boxes.device
    exact = boxes.to(device).double()
    kept: Tensor = batched_nms(exact - exact.min(), scores.to(device).double(), labels.to(device), threshold)
    return kept.to(boxes.device)


def mask_iou(masks: Tensor) -> Tensor:
    """IoU of every pair of bitmaps (K, h, w) bool: (K, K) float32; 0 where both are empty."""
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

    masks: (K, h, w) bool. labels: (K,) int64. Returns the indices kept, ascending (so still best first).
    """
    same = labels[:, None] == labels[None, :]
    suppresses = ((mask_iou(masks) > threshold) & same).cpu().numpy()
    kept = np.ones(len(masks), dtype=bool)
    for row in range(len(masks)):
        if kept[row]:
            kept[row + 1 :] &= ~suppresses[row, row + 1 :]
    return torch.from_numpy(kept.nonzero()[0]).to(masks.device)


def matrix_nms(masks: Tensor, scores: Tensor, labels: Tensor, sigma: float = 2.0) -> Tensor:
    """Matrix NMS (SOLOv2): scores lowered by how much better candidates of the class cover each one, all at once.

    masks: (K, h, w) bool and scores (K,), best first. A candidate j overlapped by i decays by
    min over better i of exp(−σ·iou(i, j)²) / exp(−σ·(the most i itself is overlapped by a better one)²).
    Returns the decayed scores (K,), in the order given.
    """
    if not len(masks):
        return scores
    same = labels[:, None] == labels[None, :]
    iou = (mask_iou(masks) * same).triu(diagonal=1)  # row i: the better one
    covered = iou.amax(dim=0)
    decay = torch.exp(-sigma * (iou.square() - covered.square()[:, None]))
    decay = torch.where(iou > 0, decay, 1.0)  # no overlap, no say
    return scores * decay.amin(dim=0).clamp(max=1)


def best(scores: Tensor, limit: int) -> Tensor:
    """Indices of the `limit` highest scores (K,), best first; those tied with the last one stay too."""
    order = scores.argsort(descending=True, stable=True)
    if len(order) <= limit:
        return order
    return order[scores[order] >= scores[order[limit - 1]]]

"""The losses, a formula each (paper §3.3). Every function returns one value per element or instance; none reduces."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss


def focal(logits: Tensor, targets: Tensor) -> Tensor:
    """Sigmoid focal loss (α .25, γ 2), elementwise; targets are 0 or 1 in the logits' shape."""
    loss: Tensor = sigmoid_focal_loss(logits, targets, alpha=0.25, gamma=2.0, reduction="none")
    return loss


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy with logits, elementwise."""
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none")


def box_overlap(predicted: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and GIoU of boxes given as distances (…, 4) from one common location, in strides.

    IoU = (inter + 1) / (union + 1), GIoU = IoU − (hull − union) / hull, as published.
    """
    smallest, largest = torch.minimum(predicted, target), torch.maximum(predicted, target)
    intersection = _area(smallest)
    hull = _area(largest)
    union = _area(predicted) + _area(target) - intersection
    iou = (intersection + 1) / (union + 1)
    return iou, iou - (hull - union) / hull.clamp(min=torch.finfo(hull.dtype).eps)


def _area(distances: Tensor) -> Tensor:
    return (distances[..., 0] + distances[..., 2]) * (distances[..., 1] + distances[..., 3])


def giou_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """1 − GIoU of distances (P, 4): (P,)."""
    return 1 - box_overlap(predicted, target)[1]


def plain_giou_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """As mmdetection has it: without the ones that AdelaiDet adds to intersection and union. (P, 4) → (P,)."""
    corners = [torch.cat((-distances[:, :2], distances[:, 2:]), dim=1) for distances in (predicted, target)]
    loss: Tensor = generalized_box_iou_loss(*corners)
    return loss


def iou_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """−ln IoU of distances (P, 4): (P,)."""
    return -box_overlap(predicted, target)[0].log()


def smooth_l1_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Smooth L1 (knee at one stride) summed over the four distances (P, 4): (P,)."""
    return F.smooth_l1_loss(predicted, target, reduction="none").sum(dim=-1)


def dice_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """1 − 2Σpt / (Σp² + Σt² + 1e-5) of masks (P, h, w): (P,)."""
    probabilities = logits.sigmoid().flatten(1)
    target = truth.flatten(1).to(probabilities.dtype)
    overlap = (probabilities * target).sum(dim=1)
    mass = probabilities.square().sum(dim=1) + target.square().sum(dim=1)
    return 1 - 2 * overlap / (mass + 1e-5)


def mask_cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean binary cross-entropy of masks (P, h, w): (P,)."""
    return cross_entropy(logits, truth.to(logits.dtype)).flatten(1).mean(dim=1)


def projection_loss(logits: Tensor, boxes: Tensor) -> Tensor:
    """Dice of the largest value in each column of masks and filled boxes (P, h, w), plus the same of rows: (P,)."""
    return dice_loss(logits.amax(dim=1), boxes.any(dim=1)) + dice_loss(logits.amax(dim=2), boxes.any(dim=2))


def disagreement(one: Tensor, other: Tensor) -> Tensor:
    """−ln(pq + (1 − p)(1 − q)) of the probabilities p and q behind two logits, elementwise.

    The odds of p and q differing are (eᵃ + eᵇ) / (1 + eᵃ⁺ᵇ), and −ln(1 − probability) is ln(1 + odds).
    """
    return F.softplus(torch.logaddexp(one, other) - F.softplus(one + other))

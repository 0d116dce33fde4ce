"""The loss formulas (paper §3.3). Each function returns one value for each element or instance, without a reduction."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from condinst.ops.boxes import intersection_and_union


def focal(logits: Tensor, targets: Tensor) -> Tensor:
    """Elementwise sigmoid focal loss with α = 0.25 and γ = 2. targets: 0 or 1, in the shape of `logits`."""
    loss: Tensor = sigmoid_focal_loss(logits, targets, alpha=0.25, gamma=2.0, reduction="none")
    return loss


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Elementwise binary cross-entropy. targets: values in [0, 1], in the shape of `logits`."""
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none")


def quality_focal(logits: Tensor, targets: Tensor) -> Tensor:
    """Elementwise quality focal loss: binary cross-entropy · |target − probability|². See arXiv 2006.04388, eq. 3.

    targets: in the shape of `logits`, the quality in [0, 1] for the class of a positive, and 0 elsewhere.
    """
    return cross_entropy(logits, targets) * (targets - logits.sigmoid()).square()


def box_overlap(predicted: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and GIoU, each (…,), of boxes given as distances (…, 4) from one common location, in strides.

    IoU = (intersection + 1) / (union + 1) and GIoU = IoU − (hull − union) / hull. The two ones follow the published
    training, not the usual definition.
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
    """1 − GIoU (P,) of boxes given as distances (P, 4) in strides."""
    return 1 - box_overlap(predicted, target)[1]


def plain_giou_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """1 − GIoU (P,) of boxes given as distances (P, 4), by the usual definition, as in mmdetection."""
    corners = [torch.cat((-distances[:, :2], distances[:, 2:]), dim=1) for distances in (predicted, target)]
    loss: Tensor = generalized_box_iou_loss(*corners)
    return loss


def clamped_giou_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """1 − GIoU (P,) of boxes given as distances (P, 4), with areas of union and hull of at least 1e-6.

    Distances may be negative, because the common location may lie outside a box. The formula is the one of RTMDet
    (arXiv 2212.07784).
    """
    corners = [torch.cat((-distances[..., :2], distances[..., 2:]), dim=-1) for distances in (predicted, target)]
    intersection, union = intersection_and_union(*corners)
    union = union.clamp(min=1e-6)
    hull = _area(torch.maximum(predicted, target)).clamp(min=1e-6)
    return 1 - intersection / union + (hull - union) / hull


def iou_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """−ln IoU (P,) of boxes given as distances (P, 4) in strides."""
    return -box_overlap(predicted, target)[0].log()


def smooth_l1_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Smooth L1 loss (P,), summed over the four distances (P, 4) in strides. It is linear from one stride on."""
    return F.smooth_l1_loss(predicted, target, reduction="none").sum(dim=-1)


def dice_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Dice loss (P,) of mask logits and true masks, both (P, h, w): 1 − 2Σpt / (Σp² + Σt² + 1e-5)."""
    probabilities = logits.sigmoid().flatten(1)
    target = truth.flatten(1).to(probabilities.dtype)
    overlap = (probabilities * target).sum(dim=1)
    mass = probabilities.square().sum(dim=1) + target.square().sum(dim=1)
    return 1 - 2 * overlap / (mass + 1e-5)


def soft_dice(probabilities: Tensor, truth: Tensor) -> Tensor:
    """Dice loss (P,) of SOLO, of probabilities and true masks, both (P, h, w): 1 − 2Σpt / (Σp² + Σt² + 2e-3)."""
    found = probabilities.flatten(1)
    target = truth.flatten(1).to(found.dtype)
    mass = (found.square().sum(dim=1) + 1e-3) + (target.square().sum(dim=1) + 1e-3)
    return 1 - 2 * (found * target).sum(dim=1) / mass


def mask_cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean binary cross-entropy (P,) of mask logits and true masks, both (P, h, w)."""
    return cross_entropy(logits, truth.to(logits.dtype)).flatten(1).mean(dim=1)


def box_cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean binary cross-entropy (P,) inside the box around each true mask; logits and truth are (P, h, w).

    The box is one pixel larger on each side, because the boxes that cut predicted masks lie between pixels (YOLACT,
    arXiv 1904.02689, §3.2). An empty true mask has a loss of 0.
    """
    rows, columns = _spread(truth.any(dim=2)), _spread(truth.any(dim=1))
    inside = (rows[:, :, None] & columns[:, None, :]).to(logits.dtype)
    each = cross_entropy(logits, truth.to(logits.dtype)) * inside
    return each.flatten(1).sum(dim=1) / inside.flatten(1).sum(dim=1).clamp(min=1)


def _spread(used: Tensor) -> Tensor:
    """Fill each row (P, n) bool from one before its first True to one after its last."""
    wider = F.max_pool1d(used[:, None].float(), 3, 1, 1)[:, 0]
    return (wider.cummax(dim=1).values.bool()) & (wider.flip(1).cummax(dim=1).values.flip(1).bool())


def projection_loss(logits: Tensor, boxes: Tensor) -> Tensor:
    """Projection loss of BoxInst (P,), from mask logits and filled boxes, both (P, h, w).

    It is the dice loss of the maxima over each column plus the dice loss of the maxima over each row.
    """
    return dice_loss(logits.amax(dim=1), boxes.any(dim=1)) + dice_loss(logits.amax(dim=2), boxes.any(dim=2))


def disagreement(one: Tensor, other: Tensor) -> Tensor:
    """Elementwise −ln(pq + (1 − p)(1 − q)) for the probabilities p and q of two logits a and b.

    It is the pairwise loss of BoxInst. The two pixels differ with odds (eᵃ + eᵇ) / (1 + eᵃ⁺ᵇ), and −ln(1 − probability)
    equals ln(1 + odds).
    """
    return F.softplus(torch.logaddexp(one, other) - F.softplus(one + other))

"""The training losses of YOLACT (arXiv 1904.02689, §3 and §4).

Shapes: N images, L anchors over all levels, C classes, F prototypes, K positives of one image, h×w the prototypes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from condinst.config import Config
from condinst.model.heads.yolact.anchor_head import each_anchor
from condinst.model.yolact import YolactOutput
from condinst.ops.anchors import encode_boxes, make_anchors
from condinst.ops.boxes import box_cells
from condinst.ops.prototypes import mix_prototypes
from condinst.structures import Images, Losses, Norms
from condinst.training.yolact.assign import IGNORED, YolactTargets, choose_anchors

NEGATIVES = 3  # for each positive


def yolact_losses(
    output: YolactOutput,
    targets: YolactTargets,
    norms: Norms,
    images: Images,
    config: Config,
    iteration: int,
    generator: torch.Generator,
) -> Losses:
    """The weighted terms of the loss of one batch.

    norms: the divisors of the class loss and the box loss, averaged over all processes. The mask loss and the semantic
    loss are means over this batch. generator: draws the positives whose masks are trained.
    """
    logits, deltas, coefficients = (
        torch.cat([each_anchor(level) for level in levels], dim=1).float() for levels in output.head
    )
    size = (images.tensor.shape[-2], images.tensor.shape[-1])
    anchors = make_anchors([(level.shape[2], level.shape[3]) for level in output.head.deltas], deltas.device)
    weights, most = config.loss, config.targets.max_mask_positives
    classification, box, mask = (logits.new_zeros(()) for _ in range(3))
    drawn = 0
    for image, (labels, index) in enumerate(zip(targets.labels, targets.instance_index, strict=True)):
        classification = classification + class_loss(logits[image], labels)
        rows = (index >= 0).nonzero()[:, 0]
        wanted = encode_boxes(anchors[rows], targets.boxes[index[rows]])
        box = box + F.smooth_l1_loss(deltas[image][rows], wanted, reduction="sum")
        rows = choose_anchors(targets, image, most, generator)
        maps = mix_prototypes(output.prototypes[image].float(), coefficients[image][rows])
        mask = mask + mask_losses(maps, targets.masks[index[rows]], targets.boxes[index[rows]], size).sum()
        drawn += len(rows)
    zero = logits.new_zeros(())
    return Losses(
        classification=weights.classification_weight * classification / norms.positives,
        box=weights.box_weight * box / norms.positives,
        quality=zero,
        mask=weights.mask_weight * mask / max(drawn, 1),
        projection=zero,
        pairwise=zero,
        semantic=weights.semantic_weight * semantic_loss(output.semantic_logits, targets),
    )


def class_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The summed cross-entropy of the positives and of the hardest negatives of one image: a scalar.

    logits: (L, C+1). labels: (L,) int64, C for background, −1 for anchors that are ignored. The negatives with the
    largest loss count, three times as many as there are positives. Without a positive, all negatives count.
    """
    background = logits.shape[1] - 1
    each = F.cross_entropy(logits, labels.clamp(min=0), reduction="none")
    positive = (labels != background) & (labels != IGNORED)
    negatives = each[labels == background]
    positives = int(positive.sum())
    most = min(NEGATIVES * positives, len(negatives)) if positives else len(negatives)
    return each[positive].sum() + negatives.topk(most).values.sum()


def mask_losses(maps: Tensor, masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """The loss (K,) of each mask: the mean cross-entropy over all pixels, over the share of the box in the image.

    maps: (K, h, w), the probabilities. masks: (K, h, w) bool. boxes: (K, 4) of the instances, to which the
    probabilities are cut, in pixels of the image of `size` (height, width).
    """
    cut = (maps * box_cells(boxes, size, (maps.shape[1], maps.shape[2]))).clamp(0, 1)
    with torch.autocast(maps.device.type, enabled=False):  # torch refuses this loss in 16 bits
        each = F.binary_cross_entropy(cut, masks.to(cut.dtype), reduction="none").mean(dim=(1, 2))
    sides = boxes[:, 2:] - boxes[:, :2]
    return each / (sides[:, 0] / size[1]) / (sides[:, 1] / size[0])


def semantic_loss(logits: Tensor | None, targets: YolactTargets) -> Tensor:
    """The cross-entropy over all classes for each pixel of the batch: a scalar. Images without a mask count as right.

    logits: (N, C, h, w), or None for a model without a semantic head, whose loss is 0.
    """
    if logits is None:
        return torch.zeros((), device=targets.labels.device)
    each = F.binary_cross_entropy_with_logits(logits.float(), targets.semantic.float(), reduction="none")
    return (each * targets.drawn[:, None, None, None]).sum() / (len(each) * each[0, 0].numel())

"""Choose the positive locations whose masks are trained. All of them would need too much memory (paper §3.3)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from condinst.ops.locations import flatten_levels
from condinst.structures import HeadOutput, Positives, Targets

Sampling = Literal["random", "random_per_image", "best_per_image"]

CROWD = 1000  # most positives of an image, even if it has more instances; bounds the memory


def choose_positives(
    head: HeadOutput, targets: Targets, sampling: Sampling, most: int, generator: torch.Generator | None = None
) -> Positives:
    """Choose at most `most` positives of the batch or of each image.

    sampling: "random" draws from the batch. "random_per_image" draws from each image. "best_per_image" takes the
    positives of each image with the best score, the highest class probability × centerness. It shares them evenly over
    the instances that have positives, with at least one for each instance. Above `max(most, CROWD)` positives in an
    image, it keeps the best of them. generator: for the random draws, on the CPU.
    """
    positives = Positives(*(targets.instance_index >= 0).nonzero(as_tuple=True))
    if sampling == "best_per_image":
        scores = _scores(head, positives)
        rank = _rank(scores, targets.instance_index[positives])
        instances = positives.image_index[rank == 0].bincount()  # instances of each image
        share = (most // instances.clamp(min=1)).clamp(min=1)
        kept = rank < share[positives.image_index]
        kept &= _rank(torch.where(kept, scores, -1), positives.image_index) < max(most, CROWD)
    else:
        image_index = positives.image_index
        group = image_index if sampling == "random_per_image" else torch.zeros_like(image_index)
        order = torch.randperm(len(group), generator=generator)  # drawn on the CPU, so every device gets the same draw
        kept = _rank(order.to(group.device), group) < most
    return Positives(positives.image_index[kept], positives.location_index[kept])


def count_positives(targets: Targets, sampling: Sampling, most: int) -> Tensor:
    """The number of positives that `choose_positives` will choose: a scalar tensor. It depends on the targets alone."""
    positive = targets.instance_index >= 0
    if sampling == "random":
        return positive.sum().clamp(max=most)
    if sampling == "random_per_image":
        return positive.sum(dim=1).clamp(max=most).sum()
    kept = []
    for instances, mine in zip(targets.instance_index, positive, strict=True):
        counts = instances[mine].unique(return_counts=True)[1]
        kept.append(counts.clamp(max=max(most // max(len(counts), 1), 1)).sum().clamp(max=max(most, CROWD)))
    return torch.stack(kept).sum()


def _scores(head: HeadOutput, positives: Positives) -> Tensor:
    """The score (K,) of each positive: highest class probability × centerness, if the head has a centerness output.

    As published, the class may differ from the instance's class, and no square root is taken.
    """
    classes = flatten_levels(head.class_logits).detach()[positives].float().sigmoid().amax(dim=1)
    if not head.centerness_logits:
        return classes
    return classes * flatten_levels(head.centerness_logits).detach()[positives].float()[:, 0].sigmoid()


def _rank(scores: Tensor, group: Tensor) -> Tensor:
    """The rank (K,) int64 of each member in its group, 0 for the best score. Equal scores keep their order."""
    order = scores.argsort(descending=True, stable=True)
    order = order[group[order].argsort(stable=True)]
    sizes = group.bincount()
    first = (sizes.cumsum(dim=0) - sizes)[group[order]]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - first
    return rank

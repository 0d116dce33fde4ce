"""Which of the positive locations draw a mask: all would be too many (paper §3.3)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from condinst.ops.locations import flatten_levels
from condinst.structures import HeadOutput, Positives, Targets

Sampling = Literal["random", "random_per_image", "best_per_image"]

CROWD = 1000  # positives of an image for which there is memory, however many instances it has


def choose_positives(
    head: HeadOutput, targets: Targets, sampling: Sampling, most: int, generator: torch.Generator | None = None
) -> Positives:
    """At most `most` positives of the batch or of each image.

    "random": of the batch. "random_per_image": of each image. "best_per_image": of each image the best by the highest
    class score times centerness, shared evenly over the instances that have positives, at least one each; where that
    is more than CROWD, the best of these.
    """
    positives = Positives(*(targets.instance_index >= 0).nonzero(as_tuple=True))
    if sampling == "best_per_image":
        scores = _scores(head, positives)
        rank = _rank(scores, targets.instance_index[positives])
        instances = positives.image_index[rank == 0].bincount()  # of each image
        share = (most // instances.clamp(min=1)).clamp(min=1)
        kept = rank < share[positives.image_index]
        kept &= _rank(torch.where(kept, scores, -1), positives.image_index) < max(most, CROWD)
    else:
        image_index = positives.image_index
        group = image_index if sampling == "random_per_image" else torch.zeros_like(image_index)
        order = torch.randperm(len(group), generator=generator)  # on the CPU: the same draw on every device
        kept = _rank(order.to(group.device), group) < most
    return Positives(positives.image_index[kept], positives.location_index[kept])


def count_positives(targets: Targets, sampling: Sampling, most: int) -> Tensor:
    """How many `choose_positives` will choose, a scalar: the targets alone decide it."""
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
    """(K,), as published: not the score of the instance's own class, and without the root that detection takes."""
    classes = flatten_levels(head.class_logits).detach()[positives].float().sigmoid().amax(dim=1)
    return classes * flatten_levels(head.centerness_logits).detach()[positives].float()[:, 0].sigmoid()


def _rank(scores: Tensor, group: Tensor) -> Tensor:
    """How many of a group come before each of its members, best score first, then in order: (K,) int64."""
    order = scores.argsort(descending=True, stable=True)
    order = order[group[order].argsort(stable=True)]
    sizes = group.bincount()
    first = (sizes.cumsum(dim=0) - sizes)[group[order]]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - first
    return rank

"""Training targets that follow the predictions: the dynamic soft label assignment of RTMDet (arXiv 2212.07784, §3.2).

Shapes: N images, M instances of one image, m of them at once, L locations over all levels, P candidates among them, C
classes. Points and boxes (xyxy) are in pixels of the padded input.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from condinst.ops.boxes import boxes_from_distances, intersection_and_union
from condinst.ops.locations import all_locations, flatten_levels, of_each_location
from condinst.ops.losses import quality_focal
from condinst.structures import Geometry, NetworkOutput, Targets, Truth
from condinst.training.targets import collect

OVERLAP_WEIGHT = 3.0  # weight of the overlap in the cost, as published
PAIRS_AT_ONCE = 2**22  # pairs of an instance and a location that are compared together; bounds the memory


class Matches(NamedTuple):
    """Which instance of an image each location learns.

    instance_index: (L,) int64, −1 for background.
    overlap: (L,) float32, the IoU of the predicted box with the box of this instance, 0 for background.
    """

    instance_index: Tensor
    overlap: Tensor


class Predictions(NamedTuple):
    """The predictions of one image that the assignment reads.

    points: (L, 2). strides: (L,), in pixels. class_logits: (L, C). boxes: (L, 4), not clipped to the image.
    """

    points: Tensor
    strides: Tensor
    class_logits: Tensor
    boxes: Tensor


def assign_dynamic(
    output: NetworkOutput,
    truths: tuple[Truth, ...],
    geometry: Geometry,
    classes: int,
    radius: float,
    candidates: int,
) -> Targets:
    """The training targets of a batch for the given output of the network.

    truths: the annotation of each image. classes: C. radius, candidates: see `match`. The quality target of a positive
    is the IoU of its predicted box. Its distances are negative where it lies outside the box of its instance.
    """
    head = output.head
    maps = head.class_logits
    points, strides = all_locations(maps, geometry), of_each_location(maps, geometry.strides)
    logits = flatten_levels(head.class_logits).detach().float()
    distances = flatten_levels(head.distances_in_strides).detach().float() * strides[:, None]
    matches = [
        match(Predictions(points, strides, *of_image), truth, radius, candidates)
        for *of_image, truth in zip(logits, boxes_from_distances(points, distances), truths, strict=True)
    ]
    height, width = (side * geometry.strides[0] for side in head.class_logits[0].shape[-2:])
    chosen, quality = [found.instance_index for found in matches], torch.stack([found.overlap for found in matches])
    return collect(truths, chosen, points, strides, classes, (height, width), quality)


@torch.no_grad()
def match(
    predictions: Predictions,
    truth: Truth,
    radius: float,
    candidates: int,
    overlap_weight: float = OVERLAP_WEIGHT,
) -> Matches:
    """Match the locations of an image with its instances.

    The locations strictly inside any box are candidates for every instance. The cost of a pair is the sum of three
    terms: the classification loss with the IoU as its target, −`overlap_weight`·ln IoU, and 10^(d − `radius`), where d
    is the distance from the location to the mask's centroid in strides of the level. An instance takes as many of its
    cheapest locations as the sum of its `candidates` largest IoUs, rounded down, and at least one. If several instances
    take a location, it goes to the instance with the least cost of all, which need not be one of them. Of equal costs,
    the lowest index wins.
    """
    points, _, _, boxes = predictions
    instance_index = torch.full((len(points),), -1, dtype=torch.int64, device=points.device)
    overlap = points.new_zeros(len(points))
    inside = _inside_any(points, truth.boxes).nonzero()[:, 0]
    if len(inside):
        blocks = compare(Predictions(*(values[inside] for values in predictions)), truth, radius, overlap_weight)
        instance_index[inside] = settle(blocks, len(inside), candidates, points.device)
        positive = (instance_index >= 0).nonzero()[:, 0]
        overlap[positive] = _iou(truth.boxes[instance_index[positive]], boxes[positive])
    return Matches(instance_index, overlap)


def settle(blocks: Iterable[tuple[Tensor, Tensor]], count: int, candidates: int, device: torch.device) -> Tensor:
    """The instance of each of P = `count` locations: (P,) int64, −1 for background. The rule is the one of `match`.

    blocks: the costs and the IoUs (m, P) of all instances in their order, some instances at once. candidates: the
    number of largest IoUs that are summed.
    """
    least = torch.full((count,), torch.inf, device=device)
    cheapest, taker, takers = torch.zeros(3, count, dtype=torch.int64, device=device)
    first = 0
    for cost, overlap in blocks:
        taken = _take(cost, overlap, candidates)
        takers += taken.sum(dim=0)
        taker = torch.where(taken.any(dim=0), taken.int().argmax(dim=0) + first, taker)
        lowest, index = cost.min(dim=0)
        cheapest = torch.where(lowest < least, index + first, cheapest)
        least = torch.minimum(lowest, least)
        first += len(cost)
    return torch.where(takers > 1, cheapest, torch.where(takers == 1, taker, -1))


def _take(cost: Tensor, overlap: Tensor, candidates: int) -> Tensor:
    """(m, P) bool: which locations each instance takes, by cost and IoU (m, P). It takes the first of equal costs."""
    most = min(candidates, cost.shape[1])
    wanted = overlap.topk(most, dim=1).values.sum(dim=1).long().clamp(min=1, max=most)[:, None]
    limit = cost.topk(most, dim=1, largest=False).values.gather(1, wanted - 1)
    below, equal = cost < limit, cost == limit
    room = wanted - below.sum(dim=1, keepdim=True)
    return below | (equal & (equal.cumsum(dim=1, dtype=torch.int32) <= room))


def compare(
    predictions: Predictions, truth: Truth, radius: float, overlap_weight: float
) -> Iterator[tuple[Tensor, Tensor]]:
    """The costs and the IoUs (m, P) of all instances with P candidates, some instances at once."""
    points, strides, logits, boxes = predictions
    background = quality_focal(logits, torch.zeros_like(logits)).sum(dim=1)
    by_class = logits.T.contiguous()
    at_once = max(PAIRS_AT_ONCE // len(points), 1)
    for first in range(0, len(truth.labels), at_once):
        part = slice(first, first + at_once)
        overlap = _iou(truth.boxes[part, None], boxes)
        own = by_class[truth.labels[part]]  # (m, P)
        # all classes but the own one have target 0 for every instance, so their sum is computed once
        cost = background - quality_focal(own, torch.zeros_like(own)) + quality_focal(own, overlap)
        cost -= overlap_weight * (overlap + 1e-7).log()
        apart = (points - truth.centroids[part, None]).square().sum(dim=-1).sqrt() / strides
        yield cost + 10 ** (apart - radius), overlap  # a large distance gives inf


def _inside_any(points: Tensor, boxes: Tensor) -> Tensor:
    """(L,) bool: whether a point lies strictly inside at least one box."""
    inside = torch.zeros(len(points), dtype=torch.bool, device=points.device)
    at_once = max(PAIRS_AT_ONCE // len(points), 1)
    for first in range(0, len(boxes), at_once):
        part = boxes[first : first + at_once, None]
        inside |= ((points > part[..., :2]) & (points < part[..., 2:])).all(dim=-1).any(dim=0)
    return inside


def _iou(one: Tensor, other: Tensor) -> Tensor:
    intersection, union = intersection_and_union(one, other)
    return intersection / union.clamp(min=1e-6)

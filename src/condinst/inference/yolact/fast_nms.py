"""Fast NMS (arXiv 1904.02689, §3.3): all boxes of a class are compared at once, also with dropped boxes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from condinst.ops.boxes import intersection_and_union

PAIRS_AT_ONCE = 2**22  # pairs of boxes that are compared together; bounds the memory


class Kept(NamedTuple):
    """The kept pairs of a box and a class. rows, labels: (P,) int64. scores: (P,)."""

    rows: Tensor
    labels: Tensor
    scores: Tensor


def fast_nms(boxes: Tensor, scores: Tensor, threshold: float, lowest: float, per_class: int) -> Kept:
    """The pairs of a box and a class that no better pair of the class suppresses, class by class, best first.

    boxes: (K, 4) xyxy. scores: (K, C). A pair needs a score above `lowest`. It is dropped if its IoU with a better pair
    of the class is above `threshold`. A dropped pair still suppresses others. Of each class, the best `per_class` pairs
    take part. Of equal scores, the first box counts as the better one.
    """
    passing = (scores > lowest).sum(dim=0)
    most = min(int(passing.amax()) if scores.numel() else 0, per_class)
    found = [Kept(boxes.new_zeros(0).long(), boxes.new_zeros(0).long(), scores.new_zeros(0))]
    if most:
        for labels in passing.nonzero()[:, 0].split(max(PAIRS_AT_ONCE // most**2, 1)):  # type: ignore[no-untyped-call]
            found.append(_of_classes(boxes, scores, labels, threshold, lowest, most))
    return Kept(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def _of_classes(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float, lowest: float, most: int) -> Kept:
    ranked, order = scores[:, labels].T.sort(dim=1, descending=True, stable=True)  # (classes, K)
    ranked, order = ranked[:, :most], order[:, :most]
    chosen = boxes[order]
    intersection, union = intersection_and_union(chosen[:, :, None], chosen[:, None])
    covered = (intersection / union.clamp(min=1e-6)).triu(diagonal=1).amax(dim=1)  # by a better one
    kept = (covered <= threshold) & (ranked > lowest)
    return Kept(order[kept], labels[:, None].expand_as(order)[kept], ranked[kept])

"""Detection of YOLACT: score the anchors, keep the best of each level, suppress duplicates (arXiv 1904.02689, §3.3).

Shapes: K candidates of one image, C classes, F prototypes. A candidate is an anchor.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from condinst.inference.select import best
from condinst.inference.yolact.fast_nms import fast_nms
from condinst.model.heads.yolact.anchor_head import AnchorOutput, each_anchor
from condinst.model.yolact import YolactOutput
from condinst.ops.anchors import decode_boxes, make_anchors
from condinst.settings.model import ModelConfig
from condinst.settings.prediction import DetectConfig
from condinst.structures import Detections

PER_CLASS = 200  # candidates of a class that Fast NMS compares, as published


class Candidates(NamedTuple):
    """The candidates of one image, level by level.

    anchors: (K,) int64, indices over all levels. boxes: (K, 4), clipped to the input. scores: (K, C) in [0, 1], without
    the background. levels: (K,) int64. coefficients: (K, F).
    """

    anchors: Tensor
    boxes: Tensor
    scores: Tensor
    levels: Tensor
    coefficients: Tensor


def detect_anchors(
    output: YolactOutput, model: ModelConfig, config: DetectConfig, labels: tuple[int, ...] | None = None
) -> list[Detections]:
    """The detected instances of each image, best first. Boxes are clipped to the input.

    labels: the classes to find, or None for all. Other classes do not count against any limit of `config`. A score is
    the probability of the class among all classes and the background. Of each class, the best 200 candidates are
    compared, or `config.max_detections` if that is more.
    """
    anchors = make_anchors(_sizes(output.head), output.prototypes.device)
    return [
        _detect(candidates(output, image, anchors, config, labels), anchors, config)
        for image in range(len(output.prototypes))
    ]


def _detect(found: Candidates, anchors: Tensor, config: DetectConfig) -> Detections:
    per_class = max(PER_CLASS, config.max_detections)
    kept = fast_nms(found.boxes, found.scores, config.nms_threshold, config.score_threshold, per_class)
    chosen = best(kept.scores, config.max_detections)
    rows = kept.rows[chosen]
    own = anchors[found.anchors[rows]]
    return Detections(
        boxes=found.boxes[rows],
        scores=kept.scores[chosen],
        labels=kept.labels[chosen],
        locations=(own[:, :2] + own[:, 2:]) / 2,
        levels=found.levels[rows],
        filters=found.coefficients[rows],
    )


def candidates(
    output: YolactOutput, image: int, anchors: Tensor, config: DetectConfig, labels: tuple[int, ...] | None = None
) -> Candidates:
    """At most `config.candidates_per_level` anchors of each level, those with the best score of any class.

    anchors: (L, 4), see `condinst.ops.anchors`. labels: the classes that count, or None for all.
    """
    height, width = output.size.tolist()
    found, first = [], 0
    for level, maps in enumerate(zip(*output.head, strict=True)):
        logits, deltas, coefficients = (each_anchor(one[image : image + 1])[0].float() for one in maps)
        scores = _only(logits.softmax(dim=1)[:, :-1], labels)
        rows = torch.arange(len(scores), device=scores.device)
        if len(rows) > config.candidates_per_level:
            rows = scores.amax(dim=1).topk(config.candidates_per_level).indices
        boxes = decode_boxes(anchors[first + rows], deltas[rows], (height, width))
        levels = torch.full_like(rows, level)
        found.append(Candidates(first + rows, boxes, scores[rows], levels, coefficients[rows]))
        first += len(scores)
    return Candidates(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def _only(scores: Tensor, labels: tuple[int, ...] | None) -> Tensor:
    """The scores (K, C), with −1 for the classes that are not in `labels`."""
    if labels is None:
        return scores
    kept = torch.full_like(scores, -1)
    kept[:, list(labels)] = scores[:, list(labels)]
    return kept


def _sizes(head: AnchorOutput) -> list[tuple[int, int]]:
    return [(level.shape[2], level.shape[3]) for level in head.class_logits]

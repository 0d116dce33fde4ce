"""Scores, the best candidates of each level, suppression → Detections (paper §3.4).

N images, C classes, K candidates of one image.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from condinst.config import DetectConfig, ModelConfig
from condinst.inference.logits import mask_logits
from condinst.inference.select import best, box_nms, mask_nms, matrix_nms
from condinst.ops.boxes import boxes_from_distances
from condinst.ops.locations import flatten_level, level_locations
from condinst.ops.masks import aligned_bilinear
from condinst.structures import MASK_FEATURE_STRIDE, STRIDES, Detections, HeadOutput, NetworkOutput


class Scores(NamedTuple):
    """What a level's (location, class) pairs are worth: (h·w, C) each."""

    ranking: Tensor  # the threshold and the best `candidates_per_level` go by this
    score: Tensor  # what NMS and the user see


def detect(output: NetworkOutput, model: ModelConfig, config: DetectConfig) -> list[Detections]:
    """The instances of each image worth drawing, best first; boxes may reach outside the image.

    With `nms` "box", masks are not needed. "mask" and "matrix" draw the best `candidates_per_level` candidates of all
    levels at the model's mask_out_stride and compare those bitmaps; candidates whose mask is empty are dropped there,
    since nothing tells two of them apart.
    """
    chosen = [candidates(output.head, image, config) for image in range(len(output.mask_features))]
    if config.nms == "box":
        return [_by_boxes(found, config) for found in chosen]
    return [
        _by_masks(features, found, model, config) for features, found in zip(output.mask_features, chosen, strict=True)
    ]


def candidates(head: HeadOutput, image: int, config: DetectConfig) -> Detections:
    """One image's (location, class) pairs above the threshold, at most `candidates_per_level` a level, P3 first."""
    levels = [_level_candidates(head, level, image, config) for level in range(len(STRIDES))]
    return Detections(*(torch.cat(parts) for parts in zip(*levels, strict=True)))


def take(found: Detections, rows: Tensor) -> Detections:
    """The chosen rows (int64 or bool) of every field."""
    return Detections(*(field[rows] for field in found))


def _level_scores(class_logits: Tensor, centerness_logits: Tensor, root: bool) -> Scores:
    """From maps (1, C, h, w) and (1, 1, h, w)."""
    of_class = flatten_level(class_logits)[0].float().sigmoid()
    product = of_class * flatten_level(centerness_logits)[0].float().sigmoid()
    return Scores(product, product.sqrt()) if root else Scores(of_class, product)


def _level_candidates(head: HeadOutput, level: int, image: int, config: DetectConfig) -> Detections:
    maps = [field[level][image : image + 1] for field in head]
    class_logits, distances_in_strides, centerness_logits, filters = maps
    classes, height, width = class_logits.shape[1:]
    scores = _level_scores(class_logits, centerness_logits, config.score_root)
    ranking = scores.ranking.flatten()
    passing = (ranking > config.score_threshold).nonzero()[:, 0]
    # a stable sort, not topk: equal scores then come out in the same order on every device
    order = ranking[passing].argsort(descending=True, stable=True)[: config.candidates_per_level]
    pairs = passing[order]
    cells = pairs // classes
    locations = level_locations(height, width, STRIDES[level], class_logits.device)[cells]
    distances = flatten_level(distances_in_strides)[0, cells].float() * STRIDES[level]
    return Detections(
        boxes_from_distances(locations, distances),
        scores.score.flatten()[pairs],
        pairs % classes,
        locations,
        torch.full_like(cells, level),
        flatten_level(filters)[0, cells],
    )


def _by_boxes(found: Detections, config: DetectConfig) -> Detections:
    kept = take(found, box_nms(found.boxes, found.scores, found.labels, config.nms_threshold))
    return take(kept, best(kept.scores, config.max_detections))


def _by_masks(mask_features: Tensor, found: Detections, model: ModelConfig, config: DetectConfig) -> Detections:
    found = take(found, best(found.scores, config.candidates_per_level)[: config.candidates_per_level])
    factor = MASK_FEATURE_STRIDE // model.mask_head.mask_out_stride
    masks = [
        aligned_bilinear(logits[:, None], factor)[:, 0].sigmoid() > config.mask_threshold
        for logits in mask_logits(mask_features, found, model)
    ]
    if not masks:
        return found
    bitmaps = torch.cat(masks)
    drawn = bitmaps.flatten(1).any(dim=1)
    found, bitmaps = take(found, drawn), bitmaps[drawn]
    if config.nms == "mask":
        kept = take(found, mask_nms(bitmaps, found.labels, config.nms_threshold))
    else:
        decayed = found._replace(scores=matrix_nms(bitmaps, found.scores, found.labels))
        kept = take(decayed, decayed.scores > _lowest_score(config))
    return take(kept, best(kept.scores, config.max_detections))


def _lowest_score(config: DetectConfig) -> float:
    """The threshold in units of the score: with `score_root` it is stated for the product under the root."""
    return float(config.score_threshold**0.5) if config.score_root else config.score_threshold

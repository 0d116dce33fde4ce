"""Detection: score the candidates, keep the best of each level, suppress duplicates (paper §3.4).

Shapes: N images, C classes, K candidates of one image. A candidate is a pair of a location and a class.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from condinst.inference.logits import mask_logits
from condinst.inference.select import best, box_nms, mask_nms, matrix_nms
from condinst.ops.boxes import boxes_from_distances
from condinst.ops.locations import flatten_level, level_locations
from condinst.ops.masks import aligned_bilinear
from condinst.settings.model import ModelConfig
from condinst.settings.prediction import DetectConfig
from condinst.structures import MASK_FEATURE_STRIDE, STRIDES, Detections, HeadOutput, NetworkOutput


class Scores(NamedTuple):
    """The scores of all candidates of a level: two tensors (h·w, C)."""

    ranking: Tensor  # compared with score_threshold, and sorted for candidates_per_level
    score: Tensor  # used by NMS and returned to the user


def detect(output: NetworkOutput, model: ModelConfig, config: DetectConfig) -> list[Detections]:
    """The detected instances of each image, best first. Boxes may reach outside the image.

    `config.nms` "box" compares boxes. "mask" and "matrix" compare masks at the model's mask_out_stride, for the best
    `candidates_per_level` candidates of all levels together. They drop candidates with an empty mask, because two empty
    masks cannot be compared.
    """
    chosen = [candidates(output.head, image, config) for image in range(len(output.mask_features))]
    if config.nms == "box":
        return [_by_boxes(found, config) for found in chosen]
    return [
        _by_masks(features, found, model, config) for features, found in zip(output.mask_features, chosen, strict=True)
    ]


def candidates(head: HeadOutput, image: int, config: DetectConfig) -> Detections:
    """The candidates of one image above the threshold, at most `candidates_per_level` for each level, P3 first."""
    levels = [_level_candidates(head, level, image, config) for level in range(len(STRIDES))]
    return Detections(*(torch.cat(parts) for parts in zip(*levels, strict=True)))


def take(found: Detections, rows: Tensor) -> Detections:
    """The detections in the given rows, an int64 or bool tensor."""
    return Detections(*(field[rows] for field in found))


def _level_scores(class_logits: Tensor, centerness_logits: Tensor, root: bool) -> Scores:
    """class_logits: (1, C, h, w). centerness_logits: (1, 1, h, w). root: see `DetectConfig.score_root`."""
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
    # a stable sort instead of topk keeps equal scores in the same order on every device
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
    """The threshold for the score. With `score_root`, the setting refers to the product under the root."""
    return float(config.score_threshold**0.5) if config.score_root else config.score_threshold

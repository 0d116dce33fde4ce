"""Detection: score the candidates, keep the best of each level, suppress duplicates (paper §3.4).

Shapes: N images, C classes, K candidates of one image. A candidate is a pair of a location and a class. Where images
share a tensor, an image with fewer candidates has rows with the score −1, which hold no candidate.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from condinst.inference.logits import mask_logits
from condinst.inference.select import KeepBoxes, best, box_nms, mask_nms, matrix_nms
from condinst.ops.boxes import boxes_from_distances
from condinst.ops.convolve_at import convolve_at, read_at, run_at
from condinst.ops.locations import flatten_level, level_locations
from condinst.ops.masks import being_traced, enlarge
from condinst.settings.model import ModelConfig
from condinst.settings.prediction import DetectConfig
from condinst.structures import (
    CONDINST,
    MASK_FEATURE_STRIDE,
    Detections,
    Geometry,
    HeadOutput,
    LevelControllers,
    NetworkOutput,
)

NONE = -1.0  # the score of a row that holds no candidate


class Candidates(NamedTuple):
    """Pairs of a location and a class: `Detections` with the places of the filters instead of the filters.

    cells: (…, K) int64, the index of the location in its level, row by row. The rest as in `Detections`.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    locations: Tensor
    levels: Tensor
    cells: Tensor


Found = TypeVar("Found", Candidates, Detections)


class Scores(NamedTuple):
    """The scores of all candidates of a level: two tensors (N, h·w, C)."""

    ranking: Tensor  # compared with the threshold, and sorted for candidates_per_level
    score: Tensor  # used by NMS and returned to the user
    threshold: float


def detect(
    output: NetworkOutput, model: ModelConfig, config: DetectConfig, labels: tuple[int, ...] | None = None
) -> list[Detections]:
    """The detected instances of each image, best first. Boxes may reach outside the image, see `Geometry.clips`.

    labels: the classes to find, or None for all. Other classes do not count against `max_detections`.
    `config.nms` "box" compares boxes. "mask" and "matrix" compare masks at the model's mask_out_stride, for the best
    `candidates_per_level` candidates of all levels together. They drop candidates with an empty mask, because two empty
    masks cannot be compared.
    """
    if labels is not None:
        logits = tuple(_only(level, labels) for level in output.head.class_logits)
        output = output._replace(head=output.head._replace(class_logits=logits))
    chosen = each_image(candidates(output.head, config, model.geometry))
    if config.nms == "box":
        return [with_filters(output, image, _by_boxes(found, config)) for image, found in enumerate(chosen)]
    return [_by_masks(output, image, found, model, config) for image, found in enumerate(chosen)]


def _only(class_logits: Tensor, labels: tuple[int, ...]) -> Tensor:
    """The class logits (N, C, h, w), with −∞ for the classes that are not in `labels`."""
    kept = torch.full_like(class_logits, -torch.inf)
    kept[:, list(labels)] = class_logits[:, list(labels)]
    return kept


def detect_fixed(
    output: NetworkOutput, config: DetectConfig, keep_boxes: KeepBoxes, geometry: Geometry = CONDINST
) -> Detections:
    """The detected instances of all images in tensors of fixed shapes (N, D, …), as exported programs need.

    The function finds the instances of `detect` with `config.nms` "box". D is `max_detections`. The instances of an
    image come first, best first; the other rows have the score −1, the label −1 and zeros. keep_boxes: the suppression
    of duplicates, see `condinst.inference.select`. Of several instances with the score of the last one, `detect` keeps
    all, and this function keeps D in all.
    """
    found = candidates(output.head, config, geometry)
    kept = keep_boxes(found.boxes, found.scores, found.labels, config.nms_threshold)
    found = found._replace(scores=torch.where(kept, found.scores, NONE))
    found = _with_rows(found, config.max_detections)
    scores, rows = found.scores.topk(config.max_detections)
    found = take_each(found, rows)
    filters = read_filters(output, torch.arange(rows.shape[0], device=rows.device)[:, None], found.levels, found.cells)
    real = scores > NONE
    boxes, locations, filters = (
        torch.where(real[..., None], field, 0) for field in (found.boxes, found.locations, filters)
    )
    return Detections(boxes, scores, torch.where(real, found.labels, -1), locations, found.levels * real, filters)


def candidates(head: HeadOutput, config: DetectConfig, geometry: Geometry = CONDINST) -> Candidates:
    """The candidates above the threshold, at most `candidates_per_level` for each level, P3 first.

    The fields of the result have the shape (N, K, …).
    """
    levels = [_level_candidates(head, level, config, geometry) for level in range(len(geometry.strides))]
    found = Candidates(*(torch.cat(parts, dim=1) for parts in zip(*levels, strict=True)))
    return found if geometry.clips == "picture" else _on_canvas(found, head, geometry)


def _on_canvas(found: Candidates, head: HeadOutput, geometry: Geometry) -> Candidates:
    """The candidates with their boxes clipped to the padded input. A box without an area is no candidate."""
    height, width = (cells * geometry.strides[0] for cells in head.class_logits[0].shape[2:])
    x, y = found.boxes[..., 0::2].clamp(0, width), found.boxes[..., 1::2].clamp(0, height)
    boxes = torch.stack((x[..., 0], y[..., 0], x[..., 1], y[..., 1]), dim=-1)
    solid = (x[..., 1] > x[..., 0]) & (y[..., 1] > y[..., 0])
    return found._replace(boxes=boxes, scores=torch.where(solid, found.scores, NONE))


def each_image(found: Candidates) -> list[Candidates]:
    """Split candidates (N, K, …) into those of each image, without the rows that hold none."""
    return [take(Candidates(*fields), fields[1] > NONE) for fields in zip(*found, strict=True)]


def _with_rows(found: Candidates, rows: int) -> Candidates:
    """The candidates (N, K, …) with at least `rows` rows. The new rows hold none."""
    missing = max(0, rows - found.scores.shape[1])
    if not missing:
        return found
    more = (field.new_zeros(field.shape[0], missing, *field.shape[2:]) for field in found)
    longer = Candidates(*(torch.cat(both, dim=1) for both in zip(found, more, strict=True)))
    return longer._replace(scores=F.pad(found.scores, (0, missing), value=NONE))


def take_each(found: Candidates, rows: Tensor) -> Candidates:
    """The candidates (N, K, …) in the given rows of each image. rows: (N, k) int64."""
    images = torch.arange(rows.shape[0], device=rows.device)[:, None]
    return Candidates(*(field[images, rows] for field in found))


def take(found: Found, rows: Tensor) -> Found:
    """The detections or candidates in the given rows, an int64 or bool tensor."""
    return type(found)(*(field[rows] for field in found))


def with_filters(output: NetworkOutput, image: int, found: Candidates) -> Detections:
    """The candidates (K, …) of one image with their filters."""
    filters = read_filters(output, torch.full_like(found.cells, image), found.levels, found.cells)
    return Detections(found.boxes, found.scores, found.labels, found.locations, found.levels, filters)


def read_filters(output: NetworkOutput, images: Tensor, levels: Tensor, cells: Tensor) -> Tensor:
    """The filters (…, count) at locations. images, levels, cells: (…,) int64; see `Candidates`."""
    maps = output.head.filters
    if output.controller is None:
        return read_at(maps, images, levels, cells)
    if isinstance(output.controller, LevelControllers):
        return run_at(maps, output.controller.levels, images, levels, cells)
    return convolve_at(maps, *output.controller, images, levels, cells)


def _level_scores(
    class_logits: Tensor, centerness_logits: Tensor | None, config: DetectConfig, geometry: Geometry
) -> Scores:
    """class_logits: (N, C, h, w). centerness_logits: (N, 1, h, w), if any."""
    of_class, threshold = flatten_level(class_logits).float().sigmoid(), config.score_threshold
    if centerness_logits is None:
        return Scores(of_class, of_class, threshold)
    product = of_class * flatten_level(centerness_logits).float().sigmoid()
    if not config.score_root:
        return Scores(of_class, product, threshold)
    if geometry.passing == "class":
        return Scores(torch.where(of_class > threshold, product, NONE), product.sqrt(), NONE)
    return Scores(product, product.sqrt(), threshold)


def _level_candidates(head: HeadOutput, level: int, config: DetectConfig, geometry: Geometry) -> Candidates:
    class_logits, distances_in_strides = head.class_logits[level], head.distances_in_strides[level]
    centerness_logits = head.centerness_logits[level] if geometry.centerness else None
    stride = geometry.strides[level]
    classes, height, width = class_logits.shape[1:]
    scores = _level_scores(class_logits, centerness_logits, config, geometry)
    pairs, passing = _best_pairs(scores.ranking.flatten(1), scores.threshold, config.candidates_per_level)
    cells = pairs // classes
    images = torch.arange(pairs.shape[0], device=pairs.device)[:, None]
    locations = level_locations(height, width, stride, class_logits.device, geometry.offset)[cells]
    distances = flatten_level(distances_in_strides)[images, cells].float() * stride
    return Candidates(
        boxes_from_distances(locations, distances),
        torch.where(passing, scores.score.flatten(1)[images, pairs], NONE),
        pairs % classes,
        locations,
        torch.full_like(cells, level),
        cells,
    )


def _best_pairs(ranking: Tensor, threshold: float, limit: int) -> tuple[Tensor, Tensor]:
    """The best pairs of each image, best first: indices (N, K) int64 into `ranking`, and (N, K) bool, False for none.

    ranking: (N, h·w·C). Of equal scores, the pair with the lower index comes first. Exported programs have K = limit,
    or all pairs if a fixed input has fewer. They leave the order of equal scores to the runtime; ONNX's TopK has the
    same order.
    """
    if being_traced():
        scores = torch.where(ranking > threshold, ranking, NONE)
        if isinstance(scores.shape[1], int):  # the size of the input is fixed
            limit = min(limit, scores.shape[1])
        else:
            scores = F.pad(scores, (0, limit), value=NONE)
        best_scores, pairs = scores.topk(limit)
        passing = best_scores > NONE
        return pairs * passing, passing
    chosen = [_passing(one, threshold, limit) for one in ranking]
    counts = torch.tensor([len(pairs) for pairs in chosen], device=ranking.device)
    pairs = torch.nn.utils.rnn.pad_sequence(chosen, batch_first=True)
    return pairs, torch.arange(pairs.shape[1], device=ranking.device) < counts[:, None]


def _passing(ranking: Tensor, threshold: float, limit: int) -> Tensor:
    """The indices of the `limit` best of the scores (h·w·C,) above the threshold, best first."""
    passing = (ranking > threshold).nonzero()[:, 0]
    # a stable sort instead of topk keeps equal scores in the same order on every device
    return passing[ranking[passing].argsort(descending=True, stable=True)[:limit]]


def _by_boxes(found: Candidates, config: DetectConfig) -> Candidates:
    most = config.max_detections
    kept = take(found, box_nms(found.boxes, found.scores, found.labels, config.nms_threshold, most))
    return take(kept, best(kept.scores, config.max_detections))


def _by_masks(
    output: NetworkOutput, image: int, candidates_: Candidates, model: ModelConfig, config: DetectConfig
) -> Detections:
    rows = best(candidates_.scores, config.candidates_per_level)[: config.candidates_per_level]
    found = with_filters(output, image, take(candidates_, rows))
    factor = MASK_FEATURE_STRIDE // model.mask_head.mask_out_stride
    masks = [
        enlarge(logits[:, None], factor, model.geometry.enlarging)[:, 0].sigmoid() > config.mask_threshold
        for logits in mask_logits(output.mask_features[image], found, model)
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

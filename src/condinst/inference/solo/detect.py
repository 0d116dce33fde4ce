"""Detection in the SOLO family: score the cells by class and mask, suppress duplicates (arXiv 2003.10152, §3.3).

Shapes: C classes, S cells along each side of a level's grid, K candidates of one image. A candidate is a pair of a cell
and a class.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from condinst.inference.select import best, matrix_nms
from condinst.inference.solo.draw import cell_probabilities
from condinst.model.heads.solo.output import SoloOutput
from condinst.settings.model import ModelConfig
from condinst.settings.prediction import DetectConfig
from condinst.structures import Detections

MOST_CELLS = 2**20  # more than a level has


class Candidates(NamedTuple):
    """The candidates of an image, (K,) each. cells: int64, the index of the cell in its level. areas: mask pixels."""

    scores: Tensor
    labels: Tensor
    levels: Tensor
    cells: Tensor
    areas: Tensor


def detect_cells(
    output: SoloOutput, model: ModelConfig, config: DetectConfig, labels: tuple[int, ...] | None = None
) -> list[Detections]:
    """The detected instances of each image, best first. Boxes are zero, and `filters` is the index of the cell.

    labels: the classes to find, or None for all. The masks of the best `candidates_per_level` candidates of all levels
    are compared.
    """
    images = range(len(output.class_logits[0]))
    return [_detect(output, image, model, config, labels) for image in images]


def _detect(
    output: SoloOutput, image: int, model: ModelConfig, config: DetectConfig, labels: tuple[int, ...] | None
) -> Detections:
    found = candidates(output, image, model, config, labels)
    found = take(found, best(found.scores, config.candidates_per_level)[: config.candidates_per_level])
    found = found._replace(scores=decay(output, image, found, config))
    found = take(found, found.scores >= config.decayed_threshold)
    found = take(found, best(found.scores, config.max_detections))
    return Detections(
        boxes=found.scores.new_zeros(len(found.scores), 4),
        scores=found.scores,
        labels=found.labels,
        locations=_centres(output, found, model),
        levels=found.levels,
        filters=found.cells[:, None],
    )


def take(found: Candidates, rows: Tensor) -> Candidates:
    """The candidates in the given rows, an int64 or bool tensor."""
    return Candidates(*(field[rows] for field in found))


def candidates(
    output: SoloOutput, image: int, model: ModelConfig, config: DetectConfig, labels: tuple[int, ...] | None = None
) -> Candidates:
    """The candidates above the threshold with a mask of more pixels than the level's stride, in the order of the cells.

    Their score is the class probability times the mean probability inside their mask.
    """
    levels = [_passing(maps[image], config.score_threshold, labels) for maps in output.class_logits]
    cells, kinds, scores = (torch.cat(parts) for parts in zip(*levels, strict=True))
    counts = torch.tensor([len(part) for part, *_ in levels], device=cells.device)
    level = torch.arange(len(levels), device=cells.device).repeat_interleave(counts)
    areas, sureness = _measure(output, image, level, cells, config)
    kept = areas > torch.tensor(model.geometry.strides, device=cells.device)[level]
    return take(Candidates(scores * sureness, kinds, level, cells, areas), kept)


def decay(output: SoloOutput, image: int, found: Candidates, config: DetectConfig) -> Tensor:
    """The scores (K,) of candidates, best first, after Matrix NMS."""
    chunks = cell_probabilities(output, image, found.levels, found.cells)
    bitmaps = [probabilities > config.mask_threshold for probabilities in chunks]
    return matrix_nms(torch.cat(bitmaps), found.scores, found.labels) if bitmaps else found.scores


def _passing(class_logits: Tensor, threshold: float, labels: tuple[int, ...] | None) -> tuple[Tensor, Tensor, Tensor]:
    """The cells, the labels and the class probabilities of the candidates of a level, (K,) each."""
    scores = _peaks(class_logits.float().sigmoid()).flatten(1).T  # (S², C)
    passing = scores > threshold
    if labels is not None:
        wanted = torch.zeros(scores.shape[1], dtype=torch.bool, device=scores.device)
        wanted[list(labels)] = True
        passing &= wanted
    cells, kinds = passing.nonzero(as_tuple=True)
    return cells, kinds, scores[cells, kinds]


def _peaks(scores: Tensor) -> Tensor:
    """Scores (C, S, S), with 0 where the cell above, to the left or above on the left has a higher one."""
    largest = F.max_pool2d(scores, 2, stride=1, padding=1)[:, :-1, :-1]
    return scores * (scores == largest)


def _measure(
    output: SoloOutput, image: int, levels: Tensor, cells: Tensor, config: DetectConfig
) -> tuple[Tensor, Tensor]:
    """The area of each candidate's mask in pixels, and the mean probability inside: two tensors (K,).

    Each cell is drawn once for all its classes, and only two sums of it are kept.
    """
    drawn, which = torch.unique(levels * MOST_CELLS + cells, return_inverse=True)
    areas, sums = [levels.new_zeros(0)], [torch.zeros(0, device=levels.device)]
    for probabilities in cell_probabilities(output, image, drawn // MOST_CELLS, drawn % MOST_CELLS):
        inside = probabilities > config.mask_threshold
        areas.append(inside.sum((1, 2)))
        sums.append((probabilities * inside).sum((1, 2)))
    area = torch.cat(areas)
    return area[which], (torch.cat(sums) / area.clamp(min=1))[which]


def _centres(output: SoloOutput, found: Candidates, model: ModelConfig) -> Tensor:
    """The (x, y) of the centre of each cell, in pixels of the padded input: (K, 2)."""
    height, width = (model.geometry.mask_stride * side for side in output.masks.size)
    grids = torch.tensor(model.solo.grids, device=found.cells.device)[found.levels]
    row, column = found.cells // grids, found.cells % grids
    return torch.stack(((column + 0.5) * width / grids, (row + 0.5) * height / grids), dim=1)

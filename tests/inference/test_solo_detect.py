"""Detection in the SOLO family on random outputs, against a plain loop over cells and classes."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import condinst.inference.solo.draw as draw
from condinst.config import Config
from condinst.inference.solo.detect import candidates, detect_cells
from condinst.inference.solo.draw import draw_cells
from condinst.model.heads.solo.output import CellMasks, FixedFilters, PredictedFilters, RowsAndColumns, SoloOutput

GRIDS = (5, 4, 3, 2, 1)
STRIDES = (8, 8, 16, 32, 32)
SIZE = (16, 24)
KINDS = ("fixed", "product", "predicted")
CLASSES = 3


class Found(NamedTuple):
    """An instance of the plain loop."""

    score: float
    label: int
    level: int
    cell: int
    mask: Tensor


def settings(**detect: Any) -> Config:
    values = {
        "model": {
            "method": "solov2",
            "classes": ["a", "b", "c"],
            "solo": {"grids": GRIDS},
            "size_ranges": [[1, 96]] * 5,
            "coordinate_scales": [],
        },
        "detect": {"score_root": False, "nms": "matrix", "score_threshold": 0.3} | detect,
    }
    return Config.from_dict(values)


def random_output(kind: str, seed: int = 0, images: int = 2) -> SoloOutput:
    """Smooth masks, so that neighbouring cells overlap."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        coarse = torch.randn(*shape[:2], 3, 4, generator=generator)
        return 3 * F.interpolate(coarse, shape[2:], mode="bicubic")

    sizes = [SIZE, SIZE, (8, 12), (4, 6), (4, 6)]
    logits = tuple(torch.randn(images, CLASSES, grid, grid, generator=generator) for grid in GRIDS)
    masks: CellMasks
    if kind == "fixed":
        weights = tuple(torch.randn(grid * grid, 4, generator=generator) for grid in GRIDS)
        biases = tuple(torch.randn(grid * grid, generator=generator) for grid in GRIDS)
        masks = FixedFilters(tuple(noise(images, 4, *size) for size in sizes), weights, biases)
    elif kind == "product":
        rows, columns = (
            tuple(noise(images, grid, *size) + 2 for grid, size in zip(GRIDS, sizes, strict=True)) for _ in range(2)
        )
        masks = RowsAndColumns(rows, columns)
    else:
        filters = tuple(torch.randn(images, 4, grid, grid, generator=generator) for grid in GRIDS)
        masks = PredictedFilters(noise(images, 4, *SIZE), filters)
    return SoloOutput(logits, masks)


def mask_of(output: SoloOutput, level: int, image: int, cell: int) -> Tensor:
    masks = output.masks

    def grown(maps: Tensor) -> Tensor:
        return F.interpolate(maps[None, None], SIZE, mode="bilinear", align_corners=False)[0, 0]

    if isinstance(masks, FixedFilters):
        weights, maps = masks.weights[level][cell], masks.maps[level][image]
        return grown(((weights[:, None, None] * maps).sum(0) + masks.biases[level][cell]).sigmoid())
    if isinstance(masks, RowsAndColumns):
        row, column = divmod(cell, GRIDS[level])
        return grown(masks.rows[level][image, row].sigmoid()) * grown(masks.columns[level][image, column].sigmoid())
    filters = masks.filters[level][image].flatten(1)[:, cell]
    return (filters[:, None, None] * masks.maps[image]).sum(0).sigmoid()


def plain_candidates(output: SoloOutput, image: int, config: Config) -> list[Found]:
    found = []
    for level, grid in enumerate(GRIDS):
        scores = output.class_logits[level][image].sigmoid()
        for cell in range(grid * grid):
            row, column = divmod(cell, grid)
            for label in range(CLASSES):
                score = scores[label, row, column]
                around = scores[label, max(row - 1, 0) : row + 1, max(column - 1, 0) : column + 1]
                if score < around.max() or score <= config.detect.score_threshold:
                    continue
                mask = mask_of(output, level, image, cell)
                inside = mask > 0.5
                if inside.sum() > STRIDES[level]:
                    found.append(Found(float(score * mask[inside].mean()), label, level, cell, inside))
    return found


def plain_detect(output: SoloOutput, image: int, config: Config) -> list[Found]:
    found = sorted(plain_candidates(output, image, config), key=lambda one: -one.score)
    found = found[: config.detect.candidates_per_level]

    def overlap(one: Found, other: Found) -> float:
        if one.label != other.label:
            return 0.0
        return float((one.mask & other.mask).sum() / (one.mask | other.mask).sum())

    count = len(found)
    ious = torch.tensor([[overlap(found[i], found[j]) if i < j else 0.0 for j in range(count)] for i in range(count)])
    most = ious.amax(0)
    decayed = []
    for j, one in enumerate(found):
        factor = min(float(torch.exp(-2 * ious[i, j] ** 2) / torch.exp(-2 * most[i] ** 2)) for i in range(count))
        if one.score * factor >= config.detect.decayed_threshold:
            decayed.append(one._replace(score=one.score * factor))
    return sorted(decayed, key=lambda one: -one.score)[: config.detect.max_detections]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_candidates(kind: str, seed: int) -> None:
    output, config = random_output(kind, seed), settings()
    for image in range(2):
        found = candidates(output, image, config.model, config.detect)
        expected = plain_candidates(output, image, config)
        rows = zip(found.levels.tolist(), found.cells.tolist(), found.labels.tolist(), strict=True)
        assert list(rows) == [(one.level, one.cell, one.label) for one in expected]
        assert len(expected) > 10
        assert found.scores.tolist() == pytest.approx([one.score for one in expected], abs=1e-6)
        assert found.areas.tolist() == [int(one.mask.sum()) for one in expected]


@pytest.mark.parametrize("limits", [{}, {"candidates_per_level": 9, "max_detections": 4, "decayed_threshold": 0.2}])
@pytest.mark.parametrize("kind", KINDS)
def test_instances(kind: str, limits: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with two masks in memory at a time."""
    output, config = random_output(kind, 5), settings(**limits)
    for at_once in (2**23, 2 * SIZE[0] * SIZE[1]):
        monkeypatch.setattr(draw, "NUMBERS_AT_ONCE", at_once)
        for image, found in enumerate(detect_cells(output, config.model, config.detect)):
            expected = plain_detect(output, image, config)
            assert [int(cell) for cell in found.filters[:, 0]] == [one.cell for one in expected]
            assert found.levels.tolist() == [one.level for one in expected]
            assert found.labels.tolist() == [one.label for one in expected]
            assert found.scores.tolist() == pytest.approx([one.score for one in expected], abs=1e-6)
            chunks = list(draw_cells(output, image, found, config.model))
            assert max(len(chunk) for chunk in chunks) <= max(at_once // (SIZE[0] * SIZE[1]), 1)
            assert torch.equal(torch.cat(chunks) > 0.5, torch.stack([one.mask for one in expected]))
            assert not found.boxes.any()


def test_the_location_is_the_centre_of_the_cell() -> None:
    output, config = random_output("predicted"), settings()
    (found, _) = detect_cells(output, config.model, config.detect)
    for (x, y), level, cell in zip(found.locations.tolist(), found.levels.tolist(), found.filters[:, 0], strict=True):
        grid = GRIDS[level]
        row, column = divmod(int(cell), grid)
        assert (x, y) == pytest.approx(((column + 0.5) * 96 / grid, (row + 0.5) * 64 / grid))


def test_each_picture_alone() -> None:
    """The instances of a picture do not depend on the others of the batch."""
    output, config = random_output("product", 2), settings()
    both = detect_cells(output, config.model, config.detect)
    assert isinstance(output.masks, RowsAndColumns)
    for image in range(2):
        part = slice(image, image + 1)
        masks = RowsAndColumns(*(tuple(level[part] for level in levels) for levels in output.masks))
        alone = SoloOutput(tuple(level[part] for level in output.class_logits), masks)
        (found,) = detect_cells(alone, config.model, config.detect)
        assert all(torch.equal(*fields) for fields in zip(found, both[image], strict=True))

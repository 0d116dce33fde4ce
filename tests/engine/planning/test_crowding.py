"""How many objects the grids of SOLO can tell apart, beside the published assignment itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from condinst.engine.planning.crowding import measure_crowding, words_on_crowding
from condinst.engine.planning.plan import suit_data
from condinst.engine.planning.statistics import Statistics
from condinst.recipes import load_recipe
from condinst.structures import Truth
from condinst.training.solo.targets import Level, claim_cells

SIDE = 512


def of(boxes: np.ndarray, picture: list[int]) -> Statistics:
    """Boxes (M, 4) in square pictures of SIDE pixels."""
    extents = (boxes[:, 2:] - boxes[:, :2]) / SIDE
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2 / SIDE
    counts = np.bincount(picture)
    sizes, sides = np.sqrt(extents.prod(axis=1)), extents.max(axis=1)
    numbers = (len(counts), len(boxes), int(counts.max()), float(SIDE), 1.0)
    return Statistics(*numbers, sizes, sides, np.array(picture), middles)


def some_boxes(count: int, side: float) -> np.ndarray:
    corners = np.random.default_rng(count).uniform(0, SIDE - side, (count, 2)).astype(np.float32)
    return np.concatenate([corners, corners + np.float32(side)], axis=1)


def test_small_objects_are_lost_as_the_assignment_loses_them() -> None:
    """Objects of 12 pixels belong to P2 alone, and each to the cell of its middle."""
    model = load_recipe("small-solo").model
    boxes = some_boxes(900, 12)
    places = torch.zeros(900, 4, dtype=torch.int64)
    places[:, 2:] = 12
    truth = Truth(
        boxes=torch.from_numpy(boxes),
        labels=torch.zeros(900, dtype=torch.int64),
        centroids=torch.from_numpy((boxes[:, :2] + boxes[:, 2:]) / 2),
        has_mask=torch.ones(900, dtype=torch.bool),
        mask_pixels=torch.zeros(0, dtype=torch.bool),
        mask_places=places,
        semantic=torch.full((64, 64), -1),
    )
    owner = claim_cells(truth, (SIDE, SIDE), Level(model.solo.grids[0], *model.size_ranges[0], 8), 0.0).owner
    found = measure_crowding(of(boxes, [0] * 900), model, SIDE)
    assert found.lost == 900 - len(owner[owner >= 0].unique()) > 100
    assert (found.fullest, found.level, found.cells) == (900, 0, 1600)


def test_objects_of_different_pictures_do_not_meet() -> None:
    model = load_recipe("small-solo").model
    assert measure_crowding(of(np.array([[0.0, 0, 12, 12]] * 2), [0, 1]), model, SIDE).lost == 0
    assert measure_crowding(of(np.array([[0.0, 0, 12, 12]] * 2), [0, 0]), model, SIDE).lost == 1


def test_an_object_counts_where_one_of_its_levels_has_room() -> None:
    """50 pixels lie on P2 and P3; the cells of P3 are larger, so the two share a cell there alone."""
    model = load_recipe("small-solo").with_overrides(["model.solo.grids=[40,2,2,2,2]"]).model
    boxes = np.array([[0.0, 0, 50, 50], [40, 40, 90, 90]])
    assert measure_crowding(of(boxes, [0, 0]), model, SIDE).lost == 0


@pytest.mark.parametrize(
    ("grids", "expected"),
    [
        ("[40,36,24,16,12]", "share their cell with another object"),
        ("[8,8,8,8,8]", "warning: more objects than cells: a picture has 300 objects for the 64 cells of P2"),
    ],
)
def test_the_plan_says_so(grids: str, expected: str) -> None:
    model = load_recipe("small-solo").with_overrides([f"model.solo.grids={grids}"]).model
    line = words_on_crowding(of(some_boxes(300, 12), [0] * 300), model, SIDE)
    assert expected in line
    assert line.count("warning: ") == 1
    assert "\n" not in line


def test_a_sparse_set_needs_no_warning() -> None:
    model = load_recipe("small-solo").model
    assert "every object has a cell of its own" in words_on_crowding(of(some_boxes(1, 12), [0]), model, SIDE)


def test_methods_with_grids_are_planned_without_crops() -> None:
    """The cells are a part of the whole picture, in training as in prediction."""
    data = of(some_boxes(300, 12), [0] * 300)
    assert suit_data(load_recipe("small"), frozenset(), data).augment.crop > 0
    assert suit_data(load_recipe("small-solo"), frozenset(), data).augment.crop == 0

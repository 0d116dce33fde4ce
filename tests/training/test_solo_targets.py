"""Targets of the SOLO family against a plain loop over objects and cells."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from condinst.config import Config
from condinst.ops.bitmaps.packed_masks import pack
from condinst.ops.losses import soft_dice
from condinst.structures import Truth
from condinst.training.solo.step import count_cells
from condinst.training.solo.targets import Level, SoloTargets, assign_cells, claim_cells, shrink_masks

SIZE = (96, 160)


def random_truth(seed: int, count: int) -> tuple[Truth, Tensor]:
    """Rectangles and their masks (M, H, W); every third one is empty."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(count, *SIZE, dtype=torch.bool)
    boxes = torch.zeros(count, 4)
    for index in range(count):
        x, y = (int(torch.randint(side - 8, (), generator=generator)) for side in (SIZE[1], SIZE[0]))
        w, h = (int(torch.randint(2, 90, (), generator=generator)) for _ in range(2))
        box = (x, y, min(x + w, SIZE[1]), min(y + h, SIZE[0]))
        boxes[index] = torch.tensor(box)
        if index % 3 != 2:
            masks[index, box[1] : box[3], box[0] : box[2]] = True
            masks[index] &= torch.rand(SIZE, generator=generator) < 0.8
    places = [mask.nonzero().double().mean(0) if mask.any() else torch.zeros(2) for mask in masks]
    pixels, packed = pack(masks)
    truth = Truth(
        boxes,
        torch.randint(4, (count,), generator=generator),
        torch.stack(places).flip(1).float() if count else torch.zeros(0, 2),
        pixels,
        packed,
        torch.full((12, 20), -1),
        torch.ones(count, dtype=torch.bool),
    )
    return truth, masks


def by_loop(truth: Truth, masks: Tensor, level: Level, part: float) -> list[tuple[int, int]]:
    """(object, cell), object by object and row by row, in exact arithmetic."""
    found = []
    for index, (x0, y0, x1, y1) in enumerate(truth.boxes.tolist()):
        scale = ((x1 - x0) * (y1 - y0)) ** 0.5
        if not masks[index].any() or not level.low <= scale <= level.high:
            continue
        cx, cy = truth.centroids[index].tolist()
        spans = []
        for centre, side, length in ((cy, y1 - y0, SIZE[0]), (cx, x1 - x0, SIZE[1])):
            cell = [int((centre + sign * side * part / 2) / length * level.grid // 1) for sign in (-1, 0, 1)]
            spans.append(range(max(cell[0], 0, cell[1] - 1), min(cell[2], level.grid - 1, cell[1] + 1) + 1))
        found += [(index, row * level.grid + column) for row in spans[0] for column in spans[1]]
    return found


@pytest.mark.parametrize("part", [0.2, 0.8])
@pytest.mark.parametrize("seed", range(4))
def test_cells(seed: int, part: float) -> None:
    truth, masks = random_truth(seed, 25)
    level = Level(13, 10, 60, 4)
    claims = claim_cells(truth, SIZE, level, part)
    expected = by_loop(truth, masks, level, part)
    assert list(zip(claims.objects.tolist(), claims.cells.tolist(), strict=True)) == expected
    last = dict(sorted((cell, index) for index, cell in sorted(expected)))
    assert {cell: int(owner) for cell, owner in enumerate(claims.owner) if owner >= 0} == last


@pytest.mark.parametrize("repeated", [False, True])
def test_batch(repeated: bool) -> None:
    """The second image has no objects. A cell of several objects learns the last mask, or all of them."""
    (truth, masks), (none, _) = random_truth(7, 25), random_truth(8, 0)
    levels = [Level(9, 1, 40, 4), Level(5, 20, 200, 8)]
    targets = assign_cells((truth, none), SIZE, levels, 4, 0.5, repeated)
    assert targets.labels.shape == (2, 81 + 25)
    assert bool((targets.labels[1] == 4).all())
    for number, (level, first) in enumerate(zip(levels, (0, 81), strict=True)):
        pairs = by_loop(truth, masks, level, 0.5)
        last = dict(sorted((cell, index) for index, cell in sorted(pairs)))
        wanted = pairs if repeated else [(index, cell) for cell, index in sorted(last.items())]
        assert len(pairs) > len(last)
        found = targets.levels[number]
        assert found.images.tolist() == [0] * len(wanted)
        assert found.cells.tolist() == [cell for _, cell in wanted]
        small = shrink_masks(truth, torch.arange(25), SIZE, level.mask_stride)
        assert torch.equal(found.bitmaps[found.masks], small[[index for index, _ in wanted]])
        of_level = targets.labels[0, first : first + level.grid**2]
        assert {cell: int(label) for cell, label in enumerate(of_level) if label < 4} == {
            cell: int(truth.labels[index]) for cell, index in last.items()
        }


@pytest.mark.parametrize("repeated", [False, True])
def test_objects_without_a_mask_give_a_class_alone(repeated: bool) -> None:
    truth, _ = random_truth(7, 25)
    levels = [Level(9, 1, 200, 4)]
    every = assign_cells((truth,), SIZE, levels, 4, 0.5, repeated)
    known = torch.arange(25) % 2 == 0
    some = assign_cells((truth._replace(has_mask=known),), SIZE, levels, 4, 0.5, repeated)
    assert torch.equal(some.labels, every.labels)
    claims = claim_cells(truth, SIZE, levels[0], 0.5)
    owned = claims.owner[claims.owner >= 0]
    assert len(some.levels[0].cells) == int(known[claims.objects if repeated else owned].sum())
    assert 0 < len(some.levels[0].cells) < len(every.levels[0].cells)


@pytest.mark.parametrize("stride", [4, 8, 16])
def test_small_masks(stride: int) -> None:
    """A pixel is set if the mean of the four in the middle of its block is at least one half."""
    truth, masks = random_truth(3, 12)
    found = shrink_masks(truth, torch.tensor([4, 0, 4, 2]), SIZE, stride)
    middle = stride // 2 - 1
    for mask, index in zip(found, (4, 0, 4, 2), strict=True):
        for row in range(SIZE[0] // stride):
            for column in range(SIZE[1] // stride):
                y, x = row * stride + middle, column * stride + middle
                assert bool(mask[row, column]) == (masks[index, y : y + 2, x : x + 2].float().mean() >= 0.5)


def test_divisor_counts_cells_once() -> None:
    truth, _ = random_truth(7, 25)
    values = {
        "model": {
            "method": "solov2",
            "classes": ["a", "b", "c", "d"],
            "size_ranges": [[1, 96]] * 5,
            "coordinate_scales": [],
        },
        "detect": {"score_root": False, "nms": "matrix"},
    }
    targets: SoloTargets = assign_cells((truth,), SIZE, [Level(9, 1, 40, 4)], 4, 0.5, True)
    counts = count_cells(targets, Config.from_dict(values))
    assert int(counts.positives) == len(set(targets.levels[0].cells.tolist())) < len(targets.levels[0].cells)
    assert (float(counts.masks), float(counts.semantic)) == (1, 1)


def test_soft_dice() -> None:
    probabilities = torch.rand(3, 4, 5, dtype=torch.float64, requires_grad=True)
    truth = torch.rand(3, 4, 5) < 0.5
    found = soft_dice(probabilities, truth)
    for one, mask, value in zip(probabilities, truth.double(), found, strict=True):
        expected = 1 - 2 * (one * mask).sum() / ((one**2).sum() + 1e-3 + (mask**2).sum() + 1e-3)
        assert float(value.detach()) == pytest.approx(float(expected.detach()), abs=1e-12)
    assert torch.autograd.gradcheck(lambda maps: soft_dice(maps, truth), (probabilities,))
    assert float(soft_dice(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2))) == 1

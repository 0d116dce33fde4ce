"""Assignment of locations to instances against hand-worked cases and loops over locations and instances."""

import math

import pytest
import torch
from torch import Tensor

from condinst.ops.bitmaps.packed_masks import pack, unpack
from condinst.settings.model import ModelConfig
from condinst.structures import STRIDES, Targets, Truth
from condinst.training.targets import Grid, assign, assign_image, make_grid, measure_norms

RANGES = ModelConfig().size_ranges
RADIUS = 1.5
CPU = torch.device("cpu")


def level_sizes(side: int) -> list[tuple[int, int]]:
    return [(math.ceil(side / stride),) * 2 for stride in STRIDES]


def make_truth(boxes: list[list[float]], centroids: list[list[float]], labels: list[int], side: int = 64) -> Truth:
    """Masks are the boxes, at stride 4."""
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    masks = torch.zeros(len(boxes), side // 4, side // 4, dtype=torch.bool)
    semantic = torch.full((side // 8, side // 8), -1)
    for mask, box, label in zip(masks, corners.round().int().tolist(), labels, strict=True):
        mask[box[1] // 4 : box[3] // 4, box[0] // 4 : box[2] // 4] = True
        semantic[box[1] // 8 : box[3] // 8, box[0] // 8 : box[2] // 8] = label
    centers, has_mask = torch.tensor(centroids).reshape(-1, 2), torch.ones(len(boxes), dtype=torch.bool)
    return Truth(corners, torch.tensor(labels).long(), centers, *pack(masks), semantic, has_mask)


def whole_masks(packed: Truth | Targets, side: int = 64) -> Tensor:
    every = torch.arange(len(packed.mask_places))
    return unpack(packed.mask_pixels, packed.mask_places, every, (side // 4, side // 4))


def assign_all(*truths: Truth, side: int = 64, classes: int = 3) -> Targets:
    return assign(truths, level_sizes(side), RANGES, classes, RADIUS)


def positives(targets: Targets, image: int, width: int = 8) -> list[tuple[int, int]]:
    """Pixels (x, y) of the positive P3 locations of an image; asserts that there are no others."""
    where = (targets.instance_index[image] >= 0).nonzero()[:, 0].tolist()
    assert all(place < width * width for place in where)
    return [(place % width * 8 + 4, place // width * 8 + 4) for place in where]


def test_one_box_by_hand() -> None:
    """Centroid (24, 24), stride 8: strictly inside (12, 36) lie 20 and 28; the locations 12 and 36 are on its edge."""
    targets = assign_all(make_truth([[8, 8, 40, 44]], [[24, 24]], [2]))
    assert targets.labels.shape == (1, 64 + 16 + 4 + 1 + 1)
    assert positives(targets, 0) == [(20, 20), (28, 20), (20, 28), (28, 28)]
    at = [2 * 8 + 2, 2 * 8 + 3, 3 * 8 + 2, 3 * 8 + 3]
    distances = [[1.5, 1.5, 2.5, 3], [2.5, 1.5, 1.5, 3], [1.5, 2.5, 2.5, 2], [2.5, 2.5, 1.5, 2]]
    assert targets.distances_in_strides[0, at].tolist() == distances
    by_hand = [math.sqrt(0.6 * 0.5), math.sqrt(0.6 * 0.5), math.sqrt(0.6 * 0.8), math.sqrt(0.6 * 0.8)]
    assert targets.quality[0, at].tolist() == pytest.approx(by_hand)
    assert targets.labels[0, at].tolist() == [2] * 4
    others = torch.ones(86, dtype=torch.bool)
    others[at] = False
    assert set(targets.labels[0, others].tolist()) == {3}
    assert not targets.distances_in_strides[0, others].any()
    assert not targets.quality[0, others].any()
    norms = measure_norms(targets)
    assert norms.positives.item() == 4
    assert norms.quality.item() == pytest.approx(sum(by_hand))


def test_the_square_is_around_the_centroid_and_clipped_to_the_box() -> None:
    """Around (12, 24) the square reaches x = 24, y = 36; the box cuts it at x = 8 and y = 28, edge excluded."""
    targets = assign_all(make_truth([[8, 8, 60, 28]], [[12, 24]], [0]))
    assert positives(targets, 0) == [(12, 20), (20, 20)]


def test_the_smallest_box_wins() -> None:
    big, small = [0.0, 0, 60, 60], [12.0, 12, 40, 40]
    for boxes, winner in (([big, small], 1), ([small, big], 0)):
        targets = assign_all(make_truth(boxes, [[24, 24]] * 2, [0, 1]))
        assert set(targets.instance_index[0].tolist()) == {-1, winner}


def test_the_ends_of_a_size_range_belong_to_it() -> None:
    """A largest distance of 64 counts for P3 and for P4; 64.5 for P4 only, 63.5 for P3 only."""
    for reach, expected in ((63.5, (True, False)), (64.0, (True, True)), (64.5, (False, True))):
        for level, side in ((0, 20), (1, 24)):  # a location of P3, of P4
            grid = make_grid(level_sizes(128), RANGES, CPU)
            box = torch.tensor([[4.0, 4.0, side + reach, 40.0]])
            found = assign_image(grid, box, torch.tensor([[float(side), side]]), RADIUS)
            place = (grid.points == side).all(dim=1) & (grid.strides == STRIDES[level])
            assert place.sum() == 1
            assert bool(found[place] >= 0) == expected[level]


def test_a_huge_box_is_for_p7() -> None:
    targets = assign_all(make_truth([[0, 0, 1280, 1280]], [[640, 640]], [0], 1280), side=1280)
    grid = make_grid(level_sizes(1280), RANGES, CPU)
    chosen = targets.instance_index[0] >= 0
    assert set(grid.strides[chosen].tolist()) == {128}
    # 1.5·128 around 640: strictly inside (448, 832) lie 576 and 704; 448 and 832 are locations on the edge
    assert chosen.sum() == 4


def brute_force(grid: Grid, boxes: Tensor, centroids: Tensor, radius: float = RADIUS) -> list[int]:
    found = []
    for (x, y), stride, low, high in zip(
        grid.points.double().tolist(), grid.strides.tolist(), grid.low.tolist(), grid.high.tolist(), strict=True
    ):
        best, best_area = -1, math.inf
        for index, ((x0, y0, x1, y1), (cx, cy)) in enumerate(
            zip(boxes.double().tolist(), centroids.double().tolist(), strict=True)
        ):
            reach = radius * stride
            left, right = max(cx - reach, x0), min(cx + reach, x1)
            top, bottom = max(cy - reach, y0), min(cy + reach, y1)
            if not (left < x < right and top < y < bottom):
                continue
            if not low <= max(x - x0, y - y0, x1 - x, y1 - y) <= high:
                continue
            area = (x1 - x0) * (y1 - y0)
            if area < best_area:
                best, best_area = index, area
        found.append(best)
    return found


def test_loops_agree() -> None:
    torch.manual_seed(0)
    grid = make_grid([(24, 32), (12, 16), (6, 8), (3, 4), (2, 2)], RANGES, CPU)
    corners = torch.rand(60, 2, 2) * torch.tensor([256.0, 192.0])
    boxes = torch.cat((corners.amin(1), corners.amax(1)), dim=1)
    centroids = boxes[:, :2] + torch.rand(60, 2) * (boxes[:, 2:] - boxes[:, :2])
    found = assign_image(grid, boxes, centroids, RADIUS)
    assert found.tolist() == brute_force(grid, boxes, centroids)
    assert len(found.unique()) > 20
    assert {grid.strides[found >= 0].unique().tolist()[i] for i in range(3)} == {8, 16, 32}


@pytest.mark.parametrize("at_once", [1, 700, 2**20])
@pytest.mark.parametrize("radius", [0.3, 1.5, 2.25, 7.0, 1e9])
def test_any_square_and_any_number_of_instances(at_once: int, radius: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole numbers, so that squares, boxes and ranges meet locations and areas are equal; the first then wins."""
    monkeypatch.setattr("condinst.training.targets.PAIRS_AT_ONCE", at_once)
    generator = torch.Generator().manual_seed(3)
    grid = make_grid([(9, 14), (5, 7), (3, 4), (2, 2), (1, 1)], RANGES, CPU)
    corners = torch.randint(-2, 15, (50, 2, 2), generator=generator) * 8.0
    boxes = torch.cat((corners.amin(1), corners.amax(1)), dim=1)
    boxes[25:] = boxes[:25][torch.randperm(25, generator=generator)]
    centroids = (boxes[:, :2] + boxes[:, 2:]) / 2
    found = assign_image(grid, boxes, centroids, radius)
    assert found.tolist() == brute_force(grid, boxes, centroids, radius)
    assert len(found.unique()) > 5
    assert found.max() < 49


def test_a_batch_counts_its_instances_on() -> None:
    one = make_truth([[8, 8, 40, 40]], [[24, 24]], [1])
    none = make_truth([], [], [])
    two = make_truth([[40, 8, 60, 28], [8, 40, 28, 60]], [[50, 18], [18, 50]], [0, 2])
    two = two._replace(has_mask=torch.tensor([False, True]))
    targets = assign_all(one, none, two)
    assert targets.has_mask.tolist() == [True, False, True]
    assert targets.mask_places.shape == (3, 4)
    whole = torch.cat([whole_masks(one), whole_masks(two)])
    assert whole.any(dim=(1, 2)).all()
    assert torch.equal(whole_masks(targets), whole)
    indices = [set(row.tolist()) - {-1} for row in targets.instance_index]
    assert indices == [{0}, set(), {1, 2}]
    labels = torch.tensor([1, 0, 2, 3])[targets.instance_index]  # −1 is the last: background
    assert torch.equal(targets.labels, labels)
    assert torch.equal(targets.semantic, torch.stack([one.semantic, none.semantic, two.semantic]))


def test_no_instance_at_all() -> None:
    targets = assign_all(make_truth([], [], []), make_truth([], [], []))
    assert whole_masks(targets).shape == (0, 16, 16)
    assert set(targets.labels.unique().tolist()) == {3}
    assert (targets.instance_index == -1).all()
    assert [norm.item() for norm in measure_norms(targets)] == [0, 0]


def test_smaller_pictures_are_padded() -> None:
    small = make_truth([[8, 8, 30, 30]], [[19, 19]], [1], side=32)
    targets = assign_all(small)
    assert torch.equal(whole_masks(targets)[:, :8, :8], whole_masks(small, side=32))
    assert whole_masks(targets).sum() == whole_masks(small, side=32).sum() > 0
    assert torch.equal(targets.semantic[0, :4, :4], small.semantic)
    assert set(targets.semantic[0, 4:].flatten().tolist()) == {-1}


@pytest.mark.parametrize("side", [64, 256])
def test_mirrored(side: int) -> None:
    """Mirrored boxes and centroids give mirrored targets, left and right changing places."""
    torch.manual_seed(side)
    corners = torch.rand(9, 2, 2) * side
    boxes = torch.cat((corners.amin(1), corners.amax(1)), dim=1)
    plain = make_truth(boxes.tolist(), boxes.reshape(9, 2, 2).mean(1).tolist(), list(range(9)), side)
    flip = torch.tensor([-1.0, 1, -1, 1])
    moved = (plain.boxes * flip + torch.tensor([side, 0.0, side, 0]))[:, [2, 1, 0, 3]]
    centroids = plain.centroids * flip[:2] + torch.tensor([side, 0.0])
    mirrored = assign_all(plain._replace(boxes=moved, centroids=centroids), side=side, classes=9)
    straight = assign_all(plain, side=side, classes=9)
    first = 0
    for stride, (height, width) in zip(STRIDES, level_sizes(side), strict=True):
        if side % stride:
            continue  # this level sticks out of the picture: its locations have no mirrored ones
        part = slice(first, first + height * width)
        index, mirror = (t.instance_index[0, part].reshape(height, width) for t in (straight, mirrored))
        assert torch.equal(mirror, index.flip(1))
        sides, others = (t.distances_in_strides[0, part].reshape(height, width, 4) for t in (straight, mirrored))
        assert torch.allclose(others[..., [2, 1, 0, 3]], sides.flip(1), atol=1e-4)
        first += height * width
    assert (straight.instance_index >= 0).any()

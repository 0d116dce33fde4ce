"""The dynamic assignment against the rule written as loops in float64, and cases by hand."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from condinst.ops.bitmaps.packed_masks import pack
from condinst.ops.boxes import boxes_from_distances
from condinst.structures import CONDINST, RTMDET_INS, Geometry, HeadOutput, NetworkOutput, Truth
from condinst.training import dynamic_targets
from condinst.training.dynamic_targets import Predictions, assign_dynamic, match, settle

RADIUS, CANDIDATES = 3.0, 13
SIDE, CLASSES = 128, 7
CPU = torch.device("cpu")
Matrix = NDArray[np.float64]


def make_truth(boxes: Tensor, labels: Tensor, side: int = SIDE) -> Truth:
    """Masks are empty; centroids lie a third of the way from the left and a quarter from the top of the box."""
    centroids = boxes[:, :2] + (boxes[:, 2:] - boxes[:, :2]) * torch.tensor([1 / 3, 1 / 4])
    packed = pack(torch.zeros(len(boxes), side // 4, side // 4, dtype=torch.bool))
    semantic = torch.full((side // 8, side // 8), -1)
    return Truth(boxes, labels, centroids, *packed, semantic, torch.ones(len(boxes), dtype=torch.bool))


def draw_truth(rng: np.random.Generator, count: int, least: float = 4, side: int = SIDE) -> Truth:
    sizes = rng.uniform(least, side / 2, (count, 2))
    corners = rng.uniform(0, 1, (count, 2)) * (side - sizes)
    boxes = torch.from_numpy(np.concatenate((corners, corners + sizes), axis=1)).float()
    return make_truth(boxes, torch.from_numpy(rng.integers(0, CLASSES, count)), side)


def draw_output(rng: np.random.Generator, geometry: Geometry, images: int = 1, side: int = SIDE) -> NetworkOutput:
    def maps(channels: int, scale: float, shift: float) -> tuple[Tensor, ...]:
        shapes = [(images, channels, math.ceil(side / stride), math.ceil(side / stride)) for stride in geometry.strides]
        return tuple(torch.from_numpy(rng.normal(shift, scale, shape)).float() for shape in shapes)

    distances = tuple(level.relu() for level in maps(4, 1.5, 2))
    head = HeadOutput(maps(CLASSES, 2, -2), distances, (), ())
    return NetworkOutput(head, torch.zeros(images, 8, side // 8, side // 8), None)


def places(geometry: Geometry, side: int = SIDE) -> list[tuple[float, float, int]]:
    """(x, y, stride) of all locations."""
    return [
        ((column + geometry.offset) * stride, (row + geometry.offset) * stride, stride)
        for stride in geometry.strides
        for row in range(math.ceil(side / stride))
        for column in range(math.ceil(side / stride))
    ]


def predictions_of(output: NetworkOutput, geometry: Geometry, image: int = 0, side: int = SIDE) -> Predictions:
    rows = torch.tensor(places(geometry, side))
    points, strides = rows[:, :2], rows[:, 2]
    head = output.head
    logits, distances = (
        torch.cat([level[image].permute(1, 2, 0).reshape(-1, level.shape[1]) for level in levels])
        for levels in (head.class_logits, head.distances_in_strides)
    )
    return Predictions(points, strides, logits, boxes_from_distances(points, distances * strides[:, None]))


def brute_overlaps(boxes: Matrix, truths: Matrix) -> Matrix:
    """(P, M)."""
    one, other = boxes[:, None], truths[None]
    sides = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])
    common = sides.clip(min=0).prod(-1)
    areas = [(both[..., 2:] - both[..., :2]).prod(-1) for both in (one, other)]
    return common / (areas[0] + areas[1] - common).clip(min=1e-6)


def brute_costs(predictions: Predictions, truth: Truth) -> tuple[Matrix, Matrix]:
    """Costs and IoUs (P, M), with the target of each class of each pair."""
    points, strides, logits, boxes = (values.double().numpy() for values in predictions)
    iou = brute_overlaps(boxes, truth.boxes.double().numpy())
    target = iou[..., None] * np.eye(CLASSES)[truth.labels]  # (P, M, C)
    probability = (1 / (1 + np.exp(-logits)))[:, None]
    entropy = -target * np.log(probability) - (1 - target) * np.log1p(-probability)
    apart = points[:, None] - truth.centroids.double().numpy()
    center = np.hypot(apart[..., 0], apart[..., 1]) / strides[:, None]
    return (entropy * (target - probability) ** 2).sum(-1) - 3 * np.log(iou + 1e-7) + 10 ** (center - 3), iou


def brute_match(predictions: Predictions, truth: Truth) -> tuple[list[int], list[float]]:
    """The rule of the paper, one instance and one location after the other."""
    boxes, (x, y) = truth.boxes.double().numpy(), predictions.points.double().numpy().T[..., None]
    inside = ((x > boxes[:, 0]) & (x < boxes[:, 2]) & (y > boxes[:, 1]) & (y < boxes[:, 3])).any(1).nonzero()[0]
    chosen, quality = [-1] * len(x), [0.0] * len(x)
    if not len(inside):
        return chosen, quality
    costs, overlaps = brute_costs(Predictions(*(values[inside] for values in predictions)), truth)
    takers: dict[int, list[int]] = {}
    for g, (cost, overlap) in enumerate(zip(costs.T, overlaps.T, strict=True)):
        wanted = max(int(sum(sorted(overlap)[::-1][:CANDIDATES])), 1)
        for at in sorted(range(len(inside)), key=cost.__getitem__)[:wanted]:
            takers.setdefault(at, []).append(g)
    for at, who in takers.items():
        g = who[0] if len(who) == 1 else int(costs[at].argmin())
        chosen[inside[at]], quality[inside[at]] = g, overlaps[at, g]
    return chosen, quality


@pytest.mark.parametrize("geometry", [RTMDET_INS, CONDINST])
@pytest.mark.parametrize("count", [0, 1, 2, 9, 40])
def test_equals_the_rule_as_loops(geometry: Geometry, count: int) -> None:
    rng = np.random.default_rng(count)
    predictions = predictions_of(draw_output(rng, geometry), geometry)
    truth = draw_truth(rng, count)
    found = match(predictions, truth, RADIUS, CANDIDATES)
    chosen, quality = brute_match(predictions, truth)
    assert found.instance_index.tolist() == chosen
    assert (count == 0) == (max(chosen) < 0)
    np.testing.assert_allclose(found.overlap, quality, atol=1e-6)


def test_five_hundred_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of pairs compared at once changes nothing."""
    rng = np.random.default_rng(5)
    predictions = predictions_of(draw_output(rng, RTMDET_INS, side=320), RTMDET_INS, side=320)
    truth = draw_truth(rng, 500, side=320)
    whole = match(predictions, truth, RADIUS, CANDIDATES)
    monkeypatch.setattr(dynamic_targets, "PAIRS_AT_ONCE", 50_000)
    parts = match(predictions, truth, RADIUS, CANDIDATES)
    assert torch.equal(whole.instance_index, parts.instance_index)
    assert torch.equal(whole.overlap, parts.overlap)
    chosen, quality = brute_match(predictions, truth)
    assert len(set(chosen)) > 250
    assert whole.instance_index.tolist() == chosen
    np.testing.assert_allclose(whole.overlap, quality, atol=1e-6)


def test_an_object_without_a_location() -> None:
    """Locations inside other boxes are candidates for it, and one of them is a positive of almost no quality."""
    geometry, rng = RTMDET_INS, np.random.default_rng(2)
    predictions = predictions_of(draw_output(rng, geometry), geometry)
    far = torch.tensor([[1.0, 1, 6, 6], [65.0, 65, 127, 127]])
    truth = make_truth(far, torch.tensor([0, 1]))
    assert match(predictions, make_truth(far[:1], torch.tensor([0])), RADIUS, CANDIDATES).instance_index.max() == -1
    found = match(predictions, truth, RADIUS, CANDIDATES)
    assert found.instance_index.tolist() == brute_match(predictions, truth)[0]
    (place,) = (found.instance_index == 0).nonzero()[:, 0].tolist()
    assert predictions.points[place].gt(65).all()
    assert found.overlap[place] < 0.01


def test_equal_objects_and_equal_locations() -> None:
    """Of equal instances the first gets all; of equal locations the first ones are positive."""
    points = torch.tensor([[10.0, 10]]).repeat(30, 1)
    boxes = torch.tensor([[0.0, 0, 20, 10]]).repeat(30, 1)
    predictions = Predictions(points, torch.full((30,), 8.0), torch.zeros(30, CLASSES), boxes)
    truth = make_truth(torch.tensor([[0.0, 0, 20, 20]] * 3), torch.tensor([1, 1, 1]))
    found = match(predictions, truth, RADIUS, CANDIDATES)
    assert found.instance_index.tolist() == [0] * 6 + [-1] * 24  # 13 IoUs of one half
    assert found.overlap.tolist() == [0.5] * 6 + [0.0] * 24


def test_settled_by_hand() -> None:
    """Location 1 is taken by instances 0 and 1 and goes to instance 2, which takes location 3 but likes 1 as well."""
    cost = torch.tensor([[5.0, 4, 9, 9], [8.0, 3, 9, 9], [9.0, 2, 9, 1]])
    overlap = torch.tensor([[1.0, 1, 0, 0], [0.9, 0.8, 0, 0], [0.5, 0.4, 0, 0]])
    assert settle([(cost, overlap)], 4, CANDIDATES, CPU).tolist() == [0, 2, -1, 2]
    rows = [(cost[g : g + 1], overlap[g : g + 1]) for g in range(3)]
    assert settle(rows, 4, CANDIDATES, CPU).tolist() == [0, 2, -1, 2]
    assert settle([(cost, overlap)], 4, 1, CPU).tolist() == [-1, 2, -1, 2]


def test_infinite_costs() -> None:
    """10^distance overflows: an instance far from every location still takes the first one, unless another wants it."""
    inf = math.inf
    overlap = torch.zeros(2, 3)
    assert settle([(torch.tensor([[inf, inf, inf], [inf, 2, 1]]), overlap)], 3, CANDIDATES, CPU).tolist() == [0, -1, 1]
    assert settle([(torch.full((2, 3), inf), overlap)], 3, CANDIDATES, CPU).tolist() == [0, -1, -1]


@pytest.mark.parametrize("geometry", [RTMDET_INS, CONDINST])
def test_targets_of_a_batch(geometry: Geometry) -> None:
    rng = np.random.default_rng(4)
    output = draw_output(rng, geometry, images=3)
    truths = (draw_truth(rng, 5), draw_truth(rng, 0), draw_truth(rng, 4))
    for levels in output.head[:2]:
        for level in levels:
            level.requires_grad_()
    targets = assign_dynamic(output, truths, geometry, CLASSES, RADIUS, CANDIDATES)
    assert not any(values.requires_grad for values in targets)
    rows, first = torch.tensor(places(geometry)), 0
    for image, truth in enumerate(truths):
        found = match(predictions_of(output, geometry, image), truth, RADIUS, CANDIDATES)
        mine = found.instance_index >= 0
        index = found.instance_index[mine]
        assert torch.equal(targets.instance_index[image], torch.where(mine, found.instance_index + first, -1))
        assert torch.equal(targets.labels[image][mine], truth.labels[index])
        assert targets.labels[image][~mine].eq(CLASSES).all()
        assert torch.allclose(targets[2][image], found.overlap)
        sides = targets.distances_in_strides[image] * rows[:, 2:]
        assert torch.allclose(boxes_from_distances(rows[mine, :2], sides[mine]), truth.boxes[index], atol=1e-4)
        assert not sides[~mine].any()
        first += len(truth.labels)
    assert (targets.distances_in_strides < 0).any()
    assert targets.semantic.shape == (3, SIDE // 8, SIDE // 8)
    assert len(targets.mask_places) == len(targets.has_mask) == 9

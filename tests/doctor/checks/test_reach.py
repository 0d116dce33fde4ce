"""Which level claims which object, against the rule of the paper applied one location at a time."""

from pathlib import Path

import numpy as np
import pytest
import torch

from condinst.config import Config
from condinst.data.findings import Finding
from condinst.data.sample import Instance, Polygons, RunLengths, Sample
from condinst.doctor.checks.claims import NOWHERE, find_claims
from condinst.doctor.checks.reach import check_reach
from condinst.ops.locations import level_sizes
from condinst.recipes import load_recipe
from condinst.training.targets import assign_image, make_grid

STRIDES = (8, 16, 32, 64, 128)
RANGES = ((-1, 64), (64, 128), (128, 256), (256, 512), (512, float("inf")))
SIZE = 640  # of the picture and of the input, so that nothing is scaled
CONFIG = Config().with_overrides([f"input.shorter={SIZE}", f"input.longer={SIZE}"])


def box(number: int, x0: float, y0: float, x1: float, y1: float) -> Instance:
    return Instance(0, (x0, y0, x1, y1), None, False, number)


def sample(*instances: Instance) -> Sample:
    return Sample(Path("a.png"), 1, SIZE, SIZE, instances)


def votes(instances: tuple[Instance, ...]) -> list[list[int]]:
    """Locations of each level that each object gets: the smallest box whose centre square holds the location wins."""
    counts = [[0] * len(STRIDES) for _ in instances]
    for level, (stride, (low, high)) in enumerate(zip(STRIDES, RANGES, strict=True)):
        for y in range(stride // 2, SIZE, stride):
            for x in range(stride // 2, SIZE, stride):
                fitting = []
                for index, it in enumerate(instances):
                    x0, y0, x1, y1 = it.box
                    reach = 1.5 * stride
                    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
                    across = max(x0, cx - reach) < x < min(x1, cx + reach)
                    down = max(y0, cy - reach) < y < min(y1, cy + reach)
                    if across and down and low <= max(x - x0, y - y0, x1 - x, y1 - y) <= high:
                        fitting.append(((x1 - x0) * (y1 - y0), index))
                if fitting:
                    counts[min(fitting)[1]][level] += 1
    return counts


@pytest.mark.parametrize("seed", range(6))
def test_levels_against_every_location(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, SIZE - 4, (40, 2))
    sides = np.exp(rng.uniform(np.log(2), np.log(500), (40, 2))).round(1)
    ends = np.minimum(corners + sides, SIZE)
    instances = tuple(box(i, *corners[i].tolist(), *ends[i].tolist()) for i in range(40))
    findings: list[Finding] = []
    levels = check_reach(sample(*instances), CONFIG, findings.append)
    expected = votes(instances)
    for index, counts in enumerate(expected):
        assert (levels[index] == NOWHERE) == (not any(counts))
        assert levels[index] == NOWHERE or counts[levels[index]] == max(counts)
    told = {it.id for it in findings if it.kind == "no-location"}
    assert told == {index for index, counts in enumerate(expected) if not any(counts)}
    assert told  # else the test would show nothing
    for finding in findings:
        if finding.kind == "no-location":
            alone = any(votes((instances[int(finding.id or 0)],))[0])
            assert ("smaller objects take" in finding.message) == alone


def test_an_object_between_the_pixels_of_the_mask() -> None:
    """Two columns that the stride of 4, which looks at pixels 2, 6, 10 …, never meets."""
    line = np.ones((30, 2), dtype=np.bool_)
    instances = (
        Instance(0, (3, 100, 6, 130), RunLengths.of(line, 3, 100), False, 1),
        Instance(0, (97, 100, 99, 130), RunLengths.of(line, 97, 100), False, 2),
        Instance(0, (300, 300, 301, 301), RunLengths.of(line[:1, :1], 300, 300), True, 3),
    )
    findings: list[Finding] = []
    levels = check_reach(sample(*instances), CONFIG, findings.append)
    assert len(levels) == 2  # a crowd is nobody's to learn
    assert [(it.kind, it.id) for it in findings] == [("too-small", 1), ("no-location", 2)]


def test_a_dynamic_assigner_claims_nothing_before_training() -> None:
    """No level, and no object without a location; but masks without a pixel are found as ever."""
    line = np.ones((30, 2), dtype=np.bool_)
    instances = (
        Instance(0, (3, 100, 6, 130), RunLengths.of(line, 3, 100), False, 1),
        Instance(0, (97, 100, 99, 130), RunLengths.of(line, 97, 100), False, 2),
        box(3, 200, 200, 400, 400),
    )
    findings: list[Finding] = []
    config = load_recipe("small-rtm").with_overrides([f"input.shorter={SIZE}", f"input.longer={SIZE}"])
    assert check_reach(sample(*instances), config, findings.append) == []
    assert [(it.kind, it.id) for it in findings] == [("too-small", 1)]


def test_a_larger_input_reaches_more() -> None:
    small = sample(box(1, 5, 5, 8, 8))
    findings: list[Finding] = []
    assert check_reach(small, CONFIG, findings.append) == [NOWHERE]
    larger = CONFIG.with_overrides([f"input.shorter={4 * SIZE}", f"input.longer={4 * SIZE}"])
    assert check_reach(small, larger, findings.append) == [0]
    assert len(findings) == 1
    assert check_reach(sample(), CONFIG, findings.append) == []


@pytest.mark.parametrize(("seed", "levels"), [(0, 5), (1, 5), (2, 5), (3, 5), (4, 3), (5, 4)])
def test_the_claims_are_those_of_training(seed: int, levels: int) -> None:
    """`condinst data check` has the rule in NumPy, training has it in torch. Ties, edges and rounding included."""
    ranges = (*RANGES[: levels - 1], (RANGES[levels - 1][0], float("inf")))
    rng = np.random.default_rng(seed)
    height, width = 352, 608
    count = 200
    corners = rng.integers(-4, (width, height), (count, 2)) + rng.choice([0.0, 0.5, 1 / 3], (count, 2))
    sides = np.exp(rng.uniform(np.log(2), np.log(700), (count, 2)))
    boxes = np.concatenate((corners, corners + sides), axis=1).clip(0, (width, height) * 2).astype(np.float32)
    boxes[1::10] = boxes[::10]  # equal boxes: the first wins
    centroids = (boxes[:, :2] + boxes[:, 2:]) / 2 + rng.choice([0, 0, 3], (count, 2)).astype(np.float32)
    claims = find_claims(boxes, centroids, (height, width), ranges, 1.5)
    grid = make_grid(level_sizes(height, width, STRIDES[:levels]), ranges, torch.device("cpu"))
    chosen = assign_image(grid, torch.tensor(boxes), torch.tensor(centroids), 1.5).numpy()
    level = np.arange(levels).repeat(grid.sizes.prod(1).numpy())
    votes = np.zeros((levels, count), dtype=np.int64)
    np.add.at(votes, (level[chosen >= 0], chosen[chosen >= 0]), 1)
    assert claims.level.tolist() == np.where(votes.max(0) > 0, votes.argmax(0), NOWHERE).tolist()
    for index in range(0, count, 7):
        one = slice(index, index + 1)
        alone = assign_image(grid, torch.tensor(boxes[one]), torch.tensor(centroids[one]), 1.5)
        assert claims.alone[index] == bool((alone >= 0).any())
    assert (claims.level == NOWHERE).any()


def test_methods_that_look_at_the_centre_of_the_box() -> None:
    """The mask lies in a corner of its box: the distances from there are those of a higher level."""
    corner = np.array([[2.0, 2], [12, 2], [12, 12], [2, 12]])
    far = np.array([[180.0, 180], [181, 180], [181, 181]])
    thing = Instance(0, (2, 2, 181, 181), Polygons((corner, far)), False, 1)
    for recipe, expected in (("condinst-r50-1x", [2]), ("blendmask-550-r50-3x", [1]), ("meinst-r50-1x", [1])):
        config = load_recipe(recipe).with_overrides([f"input.shorter={SIZE}", f"input.longer={SIZE}"])
        findings: list[Finding] = []
        assert check_reach(sample(thing), config, findings.append) == expected
        assert findings == []

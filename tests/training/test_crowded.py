"""Ten thousand objects in one picture: memory, time and correctness of a training step."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from condinst.data.batch import Example
from condinst.data.dataset import TrainingSet
from condinst.data.sample import AnnotatedData, Instance, Polygons, Sample
from condinst.ops.bitmaps.packed_masks import unpack
from condinst.settings.model import ModelConfig
from condinst.settings.training import AugmentConfig
from condinst.structures import STRIDES, HeadOutput, Targets
from condinst.training.sampling import choose_positives
from condinst.training.targets import Grid, assign, make_grid

SIDE, COUNT, STRIDE = 2000, 10_000, 4
LEVELS = [(-(-2016 // stride),) * 2 for stride in STRIDES]
MOST = 800 * 2**20  # bytes above what is taken before


def discs(path: Path) -> Sample:
    rng = np.random.default_rng(0)
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    circle = np.stack((np.cos(angles), np.sin(angles)), axis=1)
    instances = []
    for number in range(COUNT):
        points = rng.uniform(12, SIDE - 12, 2) + rng.uniform(4, 12) * circle
        box = (*points.min(0).tolist(), *points.max(0).tolist())
        instances.append(Instance(number % 3, box, Polygons((points,)), False, number))
    return Sample(path, 1, SIDE, SIDE, tuple(instances))


def prepare(path: Path) -> tuple[Example, Targets, torch.Tensor]:
    """What a step takes of the picture: its truth, the targets, and the masks of the 500 positives chosen."""
    data = AnnotatedData((discs(path),), (1, 2, 3), ("a", "b", "c"), (), path)
    example = TrainingSet(data, AugmentConfig(shorter=(SIDE,), longer=SIDE, flip_horizontal=0), STRIDE, 0)[(0, 0)]
    targets = assign((example.truth,), LEVELS, ModelConfig().size_ranges, 3, 1.5)
    nothing: tuple[torch.Tensor, ...] = ()
    chosen = choose_positives(HeadOutput(nothing, nothing, nothing, nothing), targets, "random", 500)
    size = (SIDE // STRIDE, SIDE // STRIDE)
    return example, targets, unpack(targets.mask_pixels, targets.mask_places, targets.instance_index[chosen], size)


def peak() -> int:
    """Bytes, the most that this process has held; 0 but on Linux, which alone says."""
    if sys.platform != "linux":
        return 0
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024


def brute_force(grid: Grid, example: Example, location: int) -> int:
    """The instance of a location, by the rule as it is written."""
    (x, y), stride = grid.points[location].double().tolist(), grid.strides[location].item()
    boxes, centroids = example.truth.boxes.double().numpy(), example.truth.centroids.double().numpy()
    sides = np.stack((x - boxes[:, 0], y - boxes[:, 1], boxes[:, 2] - x, boxes[:, 3] - y), 1)
    near = (np.abs(centroids - (x, y)) < 1.5 * stride).all(1) & (sides > 0).all(1)
    fits = (sides.max(1) >= grid.low[location].item()) & (sides.max(1) <= grid.high[location].item())
    areas = np.where(near & fits, (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), np.inf)
    return int(areas.argmin()) if np.isfinite(areas.min()) else -1


def check(example: Example, targets: Targets, masks: torch.Tensor) -> None:
    assert masks.shape == (500, SIDE // STRIDE, SIDE // STRIDE)
    assert len(example.truth.labels) == COUNT
    assert example.truth.mask_pixels.numel() < COUNT * 49
    assert masks.flatten(1).any(1).sum() > 490
    positive = (targets.instance_index[0] >= 0).nonzero()[:, 0]
    rng, grid = np.random.default_rng(1), make_grid(LEVELS, ModelConfig().size_ranges, torch.device("cpu"))
    for location in [*rng.choice(positive.numpy(), 150), *rng.integers(0, len(targets.labels[0]), 50)]:
        assert int(targets.instance_index[0, int(location)]) == brute_force(grid, example, int(location))


def main(path: Path) -> None:
    """Print by how much the most memory held grows, of a process that did nothing else before."""
    torch.arange(1000).repeat_interleave(torch.ones(1000, dtype=torch.int64))  # what torch sets up once
    before = peak()
    made = prepare(path)
    print(peak() - before)
    check(*made)


@pytest.mark.slow
def test_ten_thousand_objects(tmp_path: Path) -> None:
    path = tmp_path / "discs.png"
    Image.new("RGB", (SIDE, SIDE)).save(path)
    done = subprocess.run([sys.executable, __file__, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < MOST


if __name__ == "__main__":
    main(Path(sys.argv[1]))

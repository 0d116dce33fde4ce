"""What an input shows of all objects of a picture, against the drawing of each by itself."""

from pathlib import Path

import numpy as np
import pytest

from condinst.data.sample import Instance, Polygons, RunLengths, Sample
from condinst.data.shown import sampled, show_instance
from condinst.doctor.checks.visible import see


def polygon(rng: np.random.Generator, number: int, size: tuple[int, int]) -> Instance:
    """Of any shape, also across itself, outside the picture or smaller than a pixel."""
    height, width = size
    middle = rng.uniform((-20, -20), (width + 20, height + 20))
    points = middle + rng.normal(0, np.exp(rng.uniform(-2, 4.5)), (rng.integers(3, 12), 2))
    points = points.round(int(rng.integers(0, 4)))
    (x0, y0), (x1, y1) = points.min(0).tolist(), points.max(0).tolist()
    return Instance(0, (x0, y0, x1, y1), Polygons((points,)), bool(rng.random() < 0.1), number)


@pytest.mark.parametrize("seed", range(8))
def test_as_each_drawn_by_itself(seed: int) -> None:
    rng = np.random.default_rng(seed)
    picture = int(rng.integers(1, 200)), int(rng.integers(1, 200))
    height, width = int(rng.integers(1, 400)), int(rng.integers(1, 400))
    stride = int(rng.choice([1, 2, 4, 8]))
    instances = [polygon(rng, number, picture) for number in range(300)]
    instances.append(Instance(0, (1.0, 1.0, 5.0, 9.0), None, False, 300))
    pixel = RunLengths.of(np.ones((1, 1), dtype=np.bool_), 0, 0)
    instances.append(Instance(0, (0.0, 0.0, 1.0, 1.0), pixel, False, 301))
    everywhere = np.array([[-5.0, -5.0], [500.0, -5.0], [500.0, 500.0], [-5.0, 500.0]])
    instances.append(Instance(0, (0.0, 0.0, 500.0, 500.0), Polygons((everywhere,)), False, 302))
    matrix = np.array([[width / picture[1], 0, 0], [0, height / picture[0], 0]])
    expected = []
    for instance in (it for it in instances if not it.crowd):
        shown = show_instance(instance, matrix, height, width)
        if shown is not None:
            left = bool(sampled(shown.region, stride)[2].any())
            expected.append((instance.annotation_id, shown.box, shown.centroid, left))
    seen = see(Sample(Path("a.png"), 1, picture[1], picture[0], tuple(instances)), height, width, stride)
    assert [(it.instance.annotation_id, it.box, it.centroid, it.sampled) for it in seen] == expected

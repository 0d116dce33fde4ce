"""The mosaic on a canvas: places by hand, and objects against the pixels that they were painted with."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from condinst.data.augment.canvas_mosaic import make_canvas_mosaic
from condinst.data.sample import Instance, Polygons, RunLengths, Sample
from condinst.data.shown import Shown
from condinst.settings.prediction import Resampling
from condinst.settings.training import AugmentConfig

FILL = (114, 114, 114)
WHOLE = {"shorter": (40,), "longer": 40, "flip_horizontal": 0.0, "jitter_scale": "linear", "mosaic_kind": "canvas"}
SIZES = ((30, 60), (50, 20), (40, 40), (80, 160))


def plain(number: int) -> tuple[np.ndarray, Sample]:
    """A picture of one colour that one object covers."""
    height, width = SIZES[number]
    outline = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float64)
    instance = Instance(number, (0, 0, width, height), Polygons((outline,)), False, 1)
    image = np.full((height, width, 3), 30 * number, dtype=np.uint8)
    return image, Sample(Path(str(number)), number, width, height, (instance,))


def test_the_whole_canvas_by_hand() -> None:
    """With a crop of the whole canvas, the four pictures touch a point, each fitted into 40 × 40."""
    config = AugmentConfig(**WHOLE, crop=80)
    points = set()
    for seed in range(60):
        scene = make_canvas_mosaic([plain(n) for n in range(4)], config, FILL, "pillow", np.random.default_rng(seed))
        assert scene.image.shape == (80, 80, 3)
        boxes = {thing.label: thing.box for thing in scene.things}
        x, y = int(boxes[0][2]), int(boxes[0][3])
        points.add((x, y))
        # 30 × 60 fits as 20 × 40, 50 × 20 as 40 × 16, 80 × 160 as 20 × 40; the canvas cuts what lies beyond it
        assert boxes == {
            0: (max(x - 40, 0), y - 20, x, y),
            1: (x, max(y - 40, 0), x + 16, y),
            2: (max(x - 40, 0), y, x, min(y + 40, 80)),
            3: (x, y, min(x + 40, 80), min(y + 20, 80)),
        }
        expected = np.full((80, 80), 114)
        for label, (x0, y0, x1, y1) in boxes.items():
            expected[int(y0) : int(y1), int(x0) : int(x1)] = 30 * label
        assert np.array_equal(scene.image, np.repeat(expected[..., None], 3, axis=2))
    xs, ys = zip(*points, strict=True)
    assert min(xs + ys) in range(20, 24)
    assert max(xs + ys) in range(56, 60)


def test_sizes_of_the_crop() -> None:
    """The canvas of 80 is resized by the jitter; the crop is as large as it can be."""
    for factor, side in ((0.5, 40), (0.25, 20), (2.0, 48)):
        config = AugmentConfig(**WHOLE, crop=48, jitter=(factor, factor))
        scene = make_canvas_mosaic([plain(n) for n in range(4)], config, FILL, "pillow", np.random.default_rng(0))
        assert scene.image.shape == (side, side, 3)


def painted(number: int) -> tuple[np.ndarray, Sample]:
    """A dark picture with three bright objects, each with a level of its own: a polygon and two of run lengths."""
    rng = np.random.default_rng(number)
    height, width = 150 + 40 * number, 240 - 30 * number
    image = np.zeros((height, width, 3), dtype=np.uint8)
    instances = []
    for label, (x0, x1) in enumerate(pairwise(np.linspace(5, width - 5, 4).astype(int).tolist())):
        y0, y1 = sorted(rng.integers(0, height, 2).tolist())
        x1, y1 = x1 - 12, max(y1, y0 + 30)
        y1 = min(y1, height)
        image[y0:y1, x0:x1, label] = 255
        mask = np.ones((y1 - y0, x1 - x0), dtype=np.bool_)
        outline = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=np.float64)
        shape = Polygons((outline,)) if label == 0 else RunLengths.of(mask, x0, y0)
        instances.append(Instance(label, (x0, y0, x1, y1), shape, False, label))
    return image, Sample(Path(str(number)), number, width, height, tuple(instances))


def whole(thing: Shown, side: int) -> np.ndarray:
    mask = np.zeros((side, side), dtype=bool)
    rows, columns = thing.region.bitmap.shape
    mask[thing.region.y : thing.region.y + rows, thing.region.x : thing.region.x + columns] = thing.region.bitmap
    return mask


@pytest.mark.parametrize("resampling", ["pillow", "opencv"])
def test_objects_lie_where_their_pixels_are(resampling: Resampling) -> None:
    config = AugmentConfig(
        shorter=(160,), longer=160, crop=120, jitter=(0.5, 2), flip_vertical=0.5, turns=True, mosaic_kind="canvas"
    )
    pictures = [painted(n) for n in range(4)]
    seen = 0
    for seed in range(25):
        scene = make_canvas_mosaic(pictures, config, (0, 0, 0), resampling, np.random.default_rng(seed))
        side = len(scene.image)
        for label in range(3):
            bright = scene.image[..., label] > 127
            things = [thing for thing in scene.things if thing.label == label]
            masks = np.any([whole(thing, side) for thing in things], axis=0) if things else np.zeros_like(bright)
            # pixels differ on the outlines alone
            edges = sum(2 * sum(thing.region.bitmap.shape) for thing in things)
            assert np.count_nonzero(bright ^ masks) <= edges
            far = np.count_nonzero(_eroded(bright) & ~masks) + np.count_nonzero(_eroded(masks) & ~bright)
            assert far == 0
            seen += len(things)
        for thing in scene.things:
            x0, y0, x1, y1 = thing.box
            assert 0 <= x0 < x1 <= side
            assert 0 <= y0 < y1 <= side
            assert abs(x0 - thing.region.x) <= 1
            assert abs(y1 - thing.region.y - thing.region.bitmap.shape[0]) <= 1
    assert seen > 100


def _eroded(mask: np.ndarray) -> np.ndarray:
    """Without the pixels within two of the outside."""
    padded = np.pad(mask, 2)
    height, width = mask.shape
    return np.all([padded[y : y + height, x : x + width] for y in range(5) for x in range(5)], axis=0)

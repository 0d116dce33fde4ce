"""Views and distorted colours, as SSD and YOLACT train: their ranges, and that pictures and objects move together."""

from __future__ import annotations

import colorsys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import box_iou

from condinst.data.augment.distortion import Distortion, distort, draw_distortion
from condinst.data.augment.views import LEAST_SIDE, View, draw_crop, draw_surroundings, overlaps, shows_centre
from condinst.data.dataset import TrainingSet
from condinst.data.sample import AnnotatedData, Instance, RunLengths, Sample
from condinst.data.transforms import augment
from condinst.ops.bitmaps.packed_masks import unpack
from condinst.settings.training import AugmentConfig

BOXES = np.array([[10.0, 20, 60, 70], [100, 40, 160, 110]])


def test_surroundings() -> None:
    """Half of the views are the picture; the others hold it whole and are up to four times as large."""
    rng = np.random.default_rng(0)
    views = [draw_surroundings(120, 200, 4, rng) for _ in range(2000)]
    plain = [view for view in views if view == View(0, 0, 200, 120)]
    assert 900 < len(plain) < 1100
    for view in views:
        assert -3 * 200 <= view.x <= 0
        assert -3 * 120 <= view.y <= 0
        assert view.x + view.width >= 200 - 1
        assert view.y + view.height >= 120 - 1
        assert view.width <= 800
        assert abs(view.width / 200 - view.height / 120) < 0.02
    assert max(view.width for view in views) > 780
    assert min(view.x / (view.width - 200) for view in views if view.width > 400) < -0.95


def test_parts() -> None:
    rng = np.random.default_rng(1)
    whole = View(-50, -20, 400, 200)
    parts = [draw_crop(whole, BOXES, rng) for _ in range(2000)]
    cut = [part for part in parts if part != whole]
    assert 0.05 < 1 - len(cut) / len(parts) < 0.4
    for part in cut:
        assert part.x >= whole.x
        assert part.y >= whole.y
        assert part.x + part.width <= whole.x + whole.width
        assert part.y + part.height <= whole.y + whole.height
        assert part.width >= LEAST_SIDE * whole.width - 1
        assert 0.45 <= part.height / part.width <= 2.1
        assert shows_centre(part, BOXES).any()
    smallest = [float(overlaps(part, BOXES).min()) for part in cut]
    assert min(smallest) == 0  # an object may be left out
    assert max(smallest) > 0.1
    assert draw_crop(whole, BOXES[:0], rng) == whole


def test_overlaps() -> None:
    view = View(30, 30, 100, 60)
    expected = box_iou(torch.tensor([[30.0, 30, 130, 90]]), torch.from_numpy(BOXES).float())[0]
    assert overlaps(view, BOXES) == pytest.approx(expected.numpy())
    assert shows_centre(View(35, 0, 100, 100), BOXES).tolist() == [False, True]  # a centre on the edge is not inside


@pytest.mark.parametrize("stretch", [False, True])
@pytest.mark.parametrize("view", [View(-40, -30, 200, 100), View(20, 10, 50, 40), View(0, 0, 100, 60)])
def test_the_matrix_says_where_the_picture_is(view: View, stretch: bool) -> None:
    image = np.zeros((60, 100, 3), dtype=np.uint8)
    image[20:40, 30:60] = 255
    config = AugmentConfig(shorter=(120,), longer=160 if stretch else 400, flip_horizontal=0)
    changed = augment(image, config, np.random.default_rng(0), "opencv", stretch, view, (7, 8, 9))
    height, width = changed.image.shape[:2]
    assert (height, width) == ((160, 160) if stretch else (120, round(view.width * 120 / view.height)))
    corners = changed.matrix @ np.array([[30, 20, 1], [60, 40, 1]]).T
    (x0, x1), (y0, y1) = corners[0].clip(0, width), corners[1].clip(0, height)
    bright = (changed.image > 127).all(axis=2)
    assert bright.sum() == pytest.approx((x1 - x0) * (y1 - y0), rel=0.1)
    assert bright[int((y0 + y1) / 2), int((x0 + x1) / 2)]
    if view.x < 0:
        assert changed.image[0, 0].tolist() == [7, 8, 9]


def test_colours() -> None:
    """Against Python's own HSV, pixel by pixel."""
    rng = np.random.default_rng(2)
    image = rng.integers(30, 220, (6, 5, 3), dtype=np.uint8)
    image[0, 0] = 90  # grey has no hue
    found = distort(image, Distortion(saturation=0.7, hue=15.0))
    for row in range(6):
        for column in range(5):
            h, s, v = colorsys.rgb_to_hsv(*(image[row, column] / 255))
            expected = np.array(colorsys.hsv_to_rgb((h + 15 / 360) % 1, s * 0.7, v)) * 255
            assert np.abs(found[row, column] - expected).max() <= 0.51
    assert (distort(image, Distortion()) == image).all()
    assert (distort(image, Distortion(brightness=20.0)) == (image.astype(int) + 20).clip(0, 255)).all()
    assert (distort(image, Distortion(contrast=2.0)) == (image.astype(int) * 2).clip(0, 255)).all()
    assert (distort(image, Distortion(channels=(2, 0, 1))) == image[..., [2, 0, 1]]).all()
    assert np.abs(distort(image, Distortion(saturation=1.5)).max(axis=2).astype(int) - image.max(axis=2)).max() == 0


def test_drawn_colours() -> None:
    rng = np.random.default_rng(3)
    drawn = [draw_distortion(rng) for _ in range(2000)]
    for values, low, high, plain in (
        ([one.brightness for one in drawn], -32, 32, 0),
        ([one.contrast for one in drawn], 0.5, 1.5, 1),
        ([one.saturation for one in drawn], 0.5, 1.5, 1),
        ([one.hue for one in drawn], -18, 18, 0),
    ):
        numbers = np.array(values)
        assert 900 < (numbers == plain).sum() < 1100
        assert low <= numbers.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < numbers.max() <= high
    assert 900 < sum(one.contrast_last for one in drawn) < 1100
    assert {one.channels for one in drawn} == {(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)}


@pytest.fixture
def data(tmp_path: Path) -> AnnotatedData:
    """A picture with a bright rectangle, which is an object, and with a speck."""
    image = np.full((90, 120, 3), 40, dtype=np.uint8)
    image[30:60, 40:80] = 250
    Image.fromarray(image).save(tmp_path / "one.png")
    rectangle = Instance(0, (40, 30, 80, 60), RunLengths.of(np.ones((30, 40), dtype=np.bool_), 40, 30), False, 1)
    speck = Instance(0, (5, 5, 8, 8), RunLengths.of(np.ones((3, 3), dtype=np.bool_), 5, 5), False, 2)
    sample = Sample(tmp_path / "one.png", 1, 120, 90, (rectangle, speck))
    return AnnotatedData((sample,), (1,), ("a",), (), tmp_path)


def test_training_examples(data: AnnotatedData) -> None:
    """Objects follow the picture, and specks of the file are left out, whatever size they get."""
    config = AugmentConfig(shorter=(160,), longer=160, surroundings=3, part=True, min_side_in_file=4)
    examples = TrainingSet(data, config, 1, 0, fill=(1, 2, 3), resampling="opencv", stretch=True)
    sides = set()
    for epoch in range(40):
        example = examples[(epoch, 0)]
        assert example.image.shape == (160, 160, 3)
        assert example.truth.labels.tolist() == [0]
        mask = unpack(example.truth.mask_pixels, example.truth.mask_places, torch.tensor([0]), (160, 160))[0].numpy()
        bright = (example.image > 140).all(axis=2)
        both, either = (mask & bright).sum(), (mask | bright).sum()
        assert both / either > 0.85
        sides.add(round(float(example.truth.boxes[0, 2] - example.truth.boxes[0, 0])))
    assert min(sides) < 40
    assert max(sides) > 80


def test_a_picture_with_specks_alone_is_not_shown(data: AnnotatedData) -> None:
    first = data.samples[0]
    specks = replace(first, instances=first.instances[1:])
    both = replace(data, samples=(specks, first))
    config = AugmentConfig(shorter=(90,), longer=120, min_side_in_file=4)
    examples = TrainingSet(both, config, 1, 0)
    assert all(len(examples[(epoch, 0)].truth.labels) == 1 for epoch in range(5))
    every = config.model_copy(update={"min_side_in_file": 0.0})
    assert len(TrainingSet(both, every, 1, 0)[(0, 1)].truth.labels) == 2

"""Sizes by the published rule; random changes whose matrix says where each pixel went."""

import numpy as np
import pytest

from condinst.data.augment.hsv import draw_shifts, shift_hsv
from condinst.data.transforms import augment, draw_factor, resize_image, resize_part, resize_shape
from condinst.settings.training import AugmentConfig

PLAIN = {"flip_horizontal": 0.0, "longer": 10_000}


def picture(height: int, width: int) -> np.ndarray:
    """Smooth, and different in every channel and direction."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (height + width)], axis=2).astype(np.uint8)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (800, 1067)),  # 1066.67 rounds up
        ((427, 640), (800, 1199)),  # 1199.06
        ((640, 427), (1199, 800)),
        ((400, 800), (667, 1333)),  # the longer side rules: 666.5 rounds half up
        ((1, 1), (800, 800)),
        ((1, 5000), (1, 1333)),  # 0.27 must not become nothing
    ],
)
def test_resize_shape(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert resize_shape(*size, 800, 1333) == expected


def test_resize_image_by_hand() -> None:
    row = np.array([[[0] * 3, [100] * 3]], dtype=np.uint8)
    # centres at 0.25, 0.75, 1.25, 1.75 of pixels centred at 0.5 and 1.5
    assert resize_image(row, 1, 4)[0, :, 0].tolist() == [0, 25, 75, 100]


def test_nothing_asked_nothing_changed() -> None:
    image = picture(30, 40)
    changed = augment(image, AugmentConfig(shorter=(30,), **PLAIN), np.random.default_rng(0))
    assert np.array_equal(changed.image, image)
    assert changed.matrix.tolist() == [[1, 0, 0], [0, 1, 0]]


def test_same_draws_same_result() -> None:
    config = AugmentConfig(shorter=(24, 32), crop=20, jitter=(0.5, 2), turns=True, brightness=0.3, hue=0.1)
    first, again, other = (augment(picture(30, 40), config, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.matrix, again.matrix)
    assert not np.array_equal(first.matrix, other.matrix)


@pytest.mark.parametrize("seed", range(12))
def test_matrix_says_where_the_pixels_went(seed: int) -> None:
    image = picture(90, 120)
    config = AugmentConfig(shorter=(100, 130), longer=400, crop=80, jitter=(0.9, 1.5), flip_vertical=0.5, turns=True)
    changed = augment(image, config, np.random.default_rng(seed))
    inverse = np.linalg.inv(np.vstack([changed.matrix, [0, 0, 1]]))
    y, x = np.mgrid[3:77, 3:77] + 0.5  # off the rim, where a crop has no neighbours to blend with
    source_x = inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2]
    source_y = inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2]
    kept = (source_x > 2) & (source_x < 118) & (source_y > 2) & (source_y < 88)
    assert np.abs(changed.image[3:77, 3:77, 0] - (source_x - 0.5) * 255 / 120)[kept].max() < 3
    assert np.abs(changed.image[3:77, 3:77, 1] - (source_y - 0.5) * 255 / 90)[kept].max() < 3


def test_crop_is_a_part_of_the_resized_image() -> None:
    image = np.random.default_rng(3).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    changed = augment(image, AugmentConfig(shorter=(96,), crop=40, **PLAIN), np.random.default_rng(1))
    left, top = (-changed.matrix[:, 2]).astype(int)
    whole = resize_image(image, 96, 128)[top : top + 40, left : left + 40]
    assert changed.image.shape == (40, 40, 3)
    assert np.abs(changed.image.astype(int) - whole)[3:-3, 3:-3].max() <= 1


def test_a_crop_larger_than_the_image_takes_it_all() -> None:
    changed = augment(picture(30, 90), AugmentConfig(shorter=(30,), crop=50, **PLAIN), np.random.default_rng(0))
    assert changed.image.shape == (30, 50, 3)


def test_turns_reach_all_four_positions() -> None:
    config = AugmentConfig(shorter=(30,), turns=True, **PLAIN)
    seen = {tuple(augment(picture(30, 40), config, np.random.default_rng(s)).matrix.ravel()) for s in range(40)}
    assert seen == {(1, 0, 0, 0, 1, 0), (0, 1, 0, -1, 0, 40), (-1, 0, 40, 0, -1, 30), (0, -1, 30, 1, 0, 0)}


def test_colour_changes_leave_the_geometry_alone() -> None:
    config = AugmentConfig(shorter=(30,), brightness=0.4, contrast=0.4, saturation=0.4, hue=0.2, **PLAIN)
    image = picture(30, 40)
    changed = augment(image, config, np.random.default_rng(0))
    assert changed.image.shape == image.shape
    assert changed.image.dtype == np.uint8
    assert not np.array_equal(changed.image, image)
    assert changed.matrix.tolist() == [[1, 0, 0], [0, 1, 0]]


def test_one_pixel() -> None:
    changed = augment(picture(1, 1), AugmentConfig(shorter=(8,), crop=8), np.random.default_rng(0))
    assert changed.image.shape == (8, 8, 3)


def test_factors_are_drawn_on_either_scale() -> None:
    """Uniformly between 0.5 and 2: half of the factors are above 1.25, or above 1 on a logarithmic scale."""
    for scale, middle in (("linear", 1.25), ("log", 1.0)):
        config = AugmentConfig(jitter=(0.5, 2.0), jitter_scale=scale)
        rng = np.random.default_rng(0)
        factors = np.array([draw_factor(config, rng) for _ in range(2000)])
        assert factors.min() >= 0.5
        assert factors.max() <= 2
        assert abs((factors > middle).mean() - 0.5) < 0.03


def test_resized_parts_of_either_filter_are_those_of_whole_pictures() -> None:
    image = np.random.default_rng(3).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    for resampling in ("pillow", "opencv"):
        for height, width in ((90, 120), (30, 40), (45, 100)):
            whole = resize_image(image, height, width, resampling)
            again = np.asarray(resize_part(image, (0, 0, 80, 60), height, width, resampling))
            assert np.abs(again.astype(int) - whole).max() <= 1
            box = (10 * 80 / width, 5 * 60 / height, 30 * 80 / width, 25 * 60 / height)
            part = np.asarray(resize_part(image, box, 20, 20, resampling))
            # the first and last pixels lack the neighbours of the whole picture
            assert np.abs(part.astype(int) - whole[5:25, 10:30])[3:-3, 3:-3].max() <= 1


def test_hsv_shifts_colours_alone() -> None:
    image = picture(30, 40)
    config = AugmentConfig(shorter=(30,), hsv=(5, 30, 30), **PLAIN)
    changed = augment(image, config, np.random.default_rng(1))
    assert changed.matrix.tolist() == [[1, 0, 0], [0, 1, 0]]
    assert np.array_equal(changed.image, shift_hsv(image, draw_shifts((5, 30, 30), _after_resizing(1))))


def _after_resizing(seed: int) -> np.random.Generator:
    rng = np.random.default_rng(seed)
    rng.uniform(), rng.integers(1), rng.integers(1), rng.integers(1)
    return rng

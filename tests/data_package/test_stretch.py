"""Inputs of a fixed size: the ratio of the sides is not kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from condinst.config import Config
from condinst.data.transforms import augment, input_shape
from condinst.errors import UsageError
from condinst.inference.settings import with_settings
from condinst.recipes import load_recipe
from condinst.settings.prediction import InputConfig
from condinst.settings.training import AugmentConfig

STRETCHED = InputConfig(shorter=550, longer=550, stretch=True)


@pytest.mark.parametrize("size", [(422, 640), (640, 422), (10, 3000), (550, 550)])
def test_input_shape(size: tuple[int, int]) -> None:
    assert input_shape(*size, STRETCHED) == (550, 550)
    assert min(input_shape(*size, InputConfig(shorter=550, longer=4000))) == 550 or max(size) == 3000


@pytest.mark.parametrize("resampling", ["pillow", "opencv"])
def test_augmented_picture_and_its_matrix(resampling: Any) -> None:
    """A bright corner lies where the matrix says."""
    image = np.zeros((40, 100, 3), dtype=np.uint8)
    image[20:, 80:] = 255
    config = AugmentConfig(shorter=(60,), longer=60, flip_horizontal=0)
    changed = augment(image, config, np.random.default_rng(0), resampling, stretch=True)
    assert changed.image.shape == (60, 60, 3)
    assert changed.matrix.tolist() == [[0.6, 0, 0], [0, 1.5, 0]]
    bright = changed.image[..., 0] > 127
    assert bright[30:, 48:].all()
    assert bright.sum() == 30 * 12


def test_a_jittered_picture_is_cropped_to_one_size() -> None:
    config = AugmentConfig(shorter=(60,), longer=60, jitter=(1.0, 2.0), crop=60)
    for seed in range(5):
        image = np.zeros((40, 100, 3), dtype=np.uint8)
        changed = augment(image, config, np.random.default_rng(seed), stretch=True)
        assert changed.image.shape == (60, 60, 3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("input.stretch=false", "model.method is yolact, which needs input.stretch=true"),
        ("input.letterbox=true", "stretch and letterbox exclude each other"),
        ("input.longer=600", "stretch needs shorter = longer, got 550 and 600"),
        ("augment.jitter=[0.5,2]", r"set augment.jitter=\[1,1\]"),
        ("augment.mosaic_kind=canvas", "needs augment.mosaic_kind=crop"),
        ("detect.nms=matrix", "needs detect.nms=box"),
        ("targets.supervision=boxes", "supervision"),
        ("model.head.prior=0.2", "method yolact does not use head.prior; leave it at 0.01"),
        ("model.mask_head.depth=2", "method yolact does not use mask_head; leave it at its defaults"),
        ("loss.box=giou", None),
        ("loss.box=iou", "does not use loss.box; leave it at giou"),
        ("model.size_divisor=32", "size_divisor: method yolact needs 1, got 32"),
        ("model.pyramid=bifpn", "method yolact needs pyramid fpn, got bifpn"),
        ("model.coordinate_scales=[1]", "needs 0 size_ranges and 0 coordinate_scales"),
    ],
)
def test_settings_that_do_not_fit(change: str, words: str | None) -> None:
    config = load_recipe("yolact-r50")
    if words is None:
        assert config.with_overrides([change])
        return
    with pytest.raises(UsageError, match=words) as caught:
        config.with_overrides([change])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("recipe", ["condinst-r50-1x", "rtmdet-ins-tiny"])
def test_other_methods_keep_the_ratio(recipe: str) -> None:
    with pytest.raises(UsageError, match=r"needs input.stretch=false"):
        load_recipe(recipe).with_overrides(["input={shorter: 640, longer: 640, stretch: true}"])
    with pytest.raises(UsageError, match="a multiple of 32, got 1"):
        load_recipe(recipe).with_overrides(["model.size_divisor=1"])


def test_a_caller_sets_both_sides_at_once() -> None:
    config = load_recipe("yolact-r50")
    changed: Config = with_settings(config, shorter=320)
    assert (changed.input.shorter, changed.input.longer) == (320, 320)
    with pytest.raises(UsageError, match="shorter = longer"):
        with_settings(config, shorter=320, longer=640)

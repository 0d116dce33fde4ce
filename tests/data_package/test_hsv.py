"""Shifts of hue, saturation and value: recorded results of OpenCV 5.0 (RGB2HSV, shift, HSV2RGB, all in 8 bits)."""

import numpy as np
import pytest

from condinst.data.augment.hsv import draw_shifts, shift_hsv

RECORDED = {
    (0, 0, 0): (
        "000000ffffffff00005a5a5a0ac8c8af106fd23392f556b61879da3b9cfd60bf2083e243a40564c72887ea4baa0d6ecf3091"
        "f255b41577d7389bfa5bbc1d7cdf409f0263c42586e7"
    ),
    (5, -30, 17): (
        "111111ffffffff431e6b6b6b25bbd9c0286ae35291ff78b23572eb5990ff5ed03c86f365b51b5ed84584fb6eab2866e0518b"
        "ff52c52e79e8579aff7bcd3778f0619f1c59d54581f8"
    ),
    (-4, 25, -30): (
        "000000e1cbcee1001e3c363700aa9391006ab41a8bd737ac0278bc1e98df5ba10b7bc427860062a91181cc2ea20070b1168e"
        "d451960371b91e91dc3b9e0976c124970069a60d84c9"
    ),
}


def picture() -> np.ndarray:
    """Black, white, red, grey and a mixed colour, and arbitrary colours."""
    image = (np.arange(4 * 6 * 3) * 97 % 256).astype(np.uint8).reshape(4, 6, 3)
    image[0, :5] = [(0, 0, 0), (255, 255, 255), (255, 0, 0), (90, 90, 90), (10, 200, 200)]
    return image


@pytest.mark.parametrize("shifts", list(RECORDED))
def test_shifts_are_those_of_opencv(shifts: tuple[int, int, int]) -> None:
    expected = np.frombuffer(bytes.fromhex(RECORDED[shifts]), dtype=np.uint8).reshape(4, 6, 3)
    assert np.abs(shift_hsv(picture(), shifts).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("shifts", [(0, 0, 0), (5, 30, 30), (-5, -30, -30), (179, -255, 255), (90, 255, -255)])
def test_opencv_itself(shifts: tuple[int, int, int]) -> None:
    cv2 = pytest.importorskip("cv2")
    image = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(np.int16) + shifts
    hsv = np.stack([hsv[..., 0] % 180, *hsv[..., 1:].clip(0, 255).transpose(2, 0, 1)], axis=2).astype(np.uint8)
    expected = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    assert np.abs(shift_hsv(image, shifts).astype(int) - expected).max() <= 1


def test_drawn_shifts() -> None:
    """Each is left out half of the time, and truncated towards 0."""
    rng = np.random.default_rng(0)
    drawn = np.array([draw_shifts((5, 30, 30), rng) for _ in range(4000)])
    assert drawn.min(axis=0).tolist() == [-4, -29, -29]
    assert drawn.max(axis=0).tolist() == [4, 29, 29]
    # left out, or below 1 in size: 1/2 + 1/2 · 1/5, and 1/2 + 1/2 · 1/30
    assert (drawn == 0).mean(axis=0) == pytest.approx([0.6, 0.517, 0.517], abs=0.03)

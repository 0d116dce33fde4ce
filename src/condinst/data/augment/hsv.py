"""Shifts hue, saturation and value in the 8-bit HSV of OpenCV: hue in 0–179, saturation and value in 0–255."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from condinst.data.sample import Array8

Shifts = tuple[int, int, int]
HUES = 180  # values of the hue: half degrees
BITS = 12  # behind the point of OpenCV's fixed point numbers
SEXTANT = 30  # of them from one pure or mixed colour to the next


def draw_shifts(largest: Shifts, rng: np.random.Generator) -> Shifts:
    """Draw the shifts of hue, saturation and value. Each is 0 with probability 1/2, as in YOLOX and RTMDet."""
    drawn = rng.uniform(-1, 1, 3) * largest * rng.integers(0, 2, 3)
    hue, saturation, value = (int(shift) for shift in drawn)
    return hue, saturation, value


def shift_hsv(image: Array8, shifts: Shifts) -> Array8:
    """Convert (H, W, 3) uint8 RGB to HSV of 8 bits, add the shifts, and convert back.

    The hue goes round. Saturation and value stop at 0 and 255. The result is within one grey level of OpenCV's.
    """
    red, green, blue = (np.ascontiguousarray(image[..., channel]).astype(np.int16) for channel in range(3))
    value = np.maximum(np.maximum(red, green), blue)
    spread = value - np.minimum(np.minimum(red, green), blue)
    hue = _hue(red, green, blue, value, spread)
    saturation = _rounded(np.arange(256), _reciprocals(255)[:, None])  # (256, 256), by value and spread
    saturations = (saturation + shifts[1]).clip(0, 255)
    values = (np.arange(256) + shifts[2]).clip(0, 255)
    brightest = values.astype(np.float32)[value]
    # how far a channel can fall below the brightest one
    depth = saturations.astype(np.float32).ravel()[(value.astype(np.int32) << 8) + spread] * (brightest / 255)
    shifted = np.empty_like(image)
    for channel, falls in enumerate(_falls(shifts[0])):
        shifted[..., channel] = brightest - depth * falls[hue]
    return shifted


def _hue(
    red: NDArray[np.int16],
    green: NDArray[np.int16],
    blue: NDArray[np.int16],
    value: NDArray[np.int16],
    spread: NDArray[np.int16],
) -> NDArray[np.int16]:
    """The hue (H, W) in 0–180 from the channels, their maximum and the difference to their minimum."""
    is_red, is_green = value == red, value == green
    ahead = np.where(is_red, green - blue, np.where(is_green, blue - red + 2 * spread, red - green + 4 * spread))
    within = _rounded(ahead, _reciprocals(SEXTANT)[spread])
    return within % HUES


def _reciprocals(scale: int) -> NDArray[np.int32]:
    """(256,): scale ÷ number for each number, 0 for 0, in fixed point as in OpenCV."""
    reciprocals = np.rint(np.divide(scale << BITS, np.maximum(np.arange(256), 1))).astype(np.int32)
    reciprocals[0] = 0
    return reciprocals


def _rounded(numbers: NDArray[np.integer], reciprocals: NDArray[np.int32]) -> NDArray[np.int16]:
    """The products, rounded half up to whole numbers."""
    return ((numbers * reciprocals + (1 << (BITS - 1))) >> BITS).astype(np.int16)


def _falls(shift: int) -> list[NDArray[np.float32]]:
    """For red, green and blue: (180,), how far each hue lets the channel fall below the brightest one, in 0–1."""
    sextants = (np.arange(HUES) + shift) % HUES / SEXTANT
    steps = [(first + sextants) % 6 for first in (5, 3, 1)]
    return [np.clip(np.minimum(step, 4 - step), 0, 1).astype(np.float32) for step in steps]

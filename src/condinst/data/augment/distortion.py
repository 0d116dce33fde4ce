"""Random changes of the colours, as in the training of SSD and YOLACT (arXiv 1512.02325, §2.2)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from condinst.data.sample import Array8

Floats = NDArray[np.float32]
BRIGHTNESS, HUE = 32.0, 18.0  # largest change: in grey levels, in degrees
FACTORS = (0.5, 1.5)  # of contrast and saturation


class Distortion(NamedTuple):
    """Changes of the colours, in the order in which they are made.

    brightness: added to each channel. contrast: factor of each channel, applied before the change of saturation and
    hue, or after it if `contrast_last`. saturation: factor. hue: in degrees. channels: the new order of the channels.
    """

    brightness: float = 0.0
    contrast: float = 1.0
    contrast_last: bool = False
    saturation: float = 1.0
    hue: float = 0.0
    channels: tuple[int, int, int] = (0, 1, 2)


def draw_distortion(rng: np.random.Generator) -> Distortion:
    """Draw the changes. Each is left out with probability 1/2."""
    used = rng.integers(0, 2, 6).tolist()
    brightness, hue = rng.uniform(-BRIGHTNESS, BRIGHTNESS), rng.uniform(-HUE, HUE)
    contrast, saturation = rng.uniform(*FACTORS, 2).tolist()
    first, second, third = rng.permutation(3).tolist()
    return Distortion(
        brightness if used[0] else 0.0,
        contrast if used[1] else 1.0,
        bool(used[2]),
        saturation if used[3] else 1.0,
        hue if used[4] else 0.0,
        (first, second, third) if used[5] else (0, 1, 2),
    )


def distort(image: Array8, change: Distortion) -> Array8:
    """Change the colours of (H, W, 3) uint8 RGB. The values are rounded and stop at 0 and 255, at the end only."""
    values = image.astype(np.float32) + np.float32(change.brightness)
    if not change.contrast_last:
        values *= np.float32(change.contrast)
    if change.saturation != 1 or change.hue:
        values = _change_hsv(values, change.saturation, change.hue)
    if change.contrast_last:
        values *= np.float32(change.contrast)
    changed: Array8 = np.rint(values[..., change.channels]).clip(0, 255).astype(np.uint8)
    return changed


def _change_hsv(values: Floats, saturation: float, hue: float) -> Floats:
    """Multiply the saturation of (H, W, 3) float32 RGB, up to 1, and turn the hue by degrees."""
    brightest, darkest = values.max(axis=2), values.min(axis=2)
    spread = brightest - darkest
    hues = (_hue(values, brightest, spread) + np.float32(hue / 60)) % 6
    share = spread / (np.abs(brightest) + np.float32(1e-7)) * np.float32(saturation)
    if saturation > 1:
        share = share.clip(0, 1)
    depth = brightest * share  # how far a channel can fall below the brightest one
    changed = np.empty_like(values)
    for channel, first in enumerate((5, 3, 1)):
        step = (hues + np.float32(first)) % 6
        changed[..., channel] = brightest - depth * np.minimum(step, 4 - step).clip(0, 1)
    return changed


def _hue(values: Floats, brightest: Floats, spread: Floats) -> Floats:
    """The hue (H, W) in 0–6: 0 is red, 2 is green, 4 is blue. 0 where all channels are equal."""
    red, green, blue = (values[..., channel] for channel in range(3))
    divisor = np.where(spread > 0, spread, np.float32(1))
    rest = np.where(brightest == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor)
    found: Floats = np.where(brightest == red, (green - blue) / divisor, rest)
    return np.where(spread > 0, found % 6, np.float32(0))

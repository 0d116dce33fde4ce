"""Resizes by the published rule, and makes the random changes of a training picture with their matrix.

A matrix (2, 3) float64 maps source coordinates to output coordinates. Pixel edges are integers: pixel 0 spans [0, 1].
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from condinst.data.augment.distortion import distort, draw_distortion
from condinst.data.augment.hsv import draw_shifts, shift_hsv
from condinst.data.augment.views import View
from condinst.data.opencv_resize import resize_like_opencv
from condinst.data.sample import Array8, Box, Matrix
from condinst.settings.prediction import InputConfig, Resampling
from condinst.settings.training import AugmentConfig


class Augmented(NamedTuple):
    """image: (H, W, 3) uint8. matrix: (2, 3) float64, source → output coordinates."""

    image: Array8
    matrix: Matrix


def resize_shape(height: int, width: int, shorter: float, longer: float) -> tuple[int, int]:
    """Return the (height, width) with the shorter side `shorter`, or smaller so the longer side is at most `longer`."""
    if shorter == longer:  # fitted into a square; one step, because two steps round a half differently
        side = longer / max(height, width)
        return max(int(height * side + 0.5), 1), max(int(width * side + 0.5), 1)
    scale = shorter / min(height, width)
    new_height, new_width = height * scale, width * scale
    if max(new_height, new_width) > longer:
        again = longer / max(new_height, new_width)
        new_height, new_width = new_height * again, new_width * again
    # a strip of one pixel by thousands must not round to zero
    return max(int(new_height + 0.5), 1), max(int(new_width + 0.5), 1)


def input_shape(height: int, width: int, size: InputConfig) -> tuple[int, int]:
    """Return the (height, width) of a picture as the network sees it, without padding."""
    return (size.longer, size.longer) if size.stretch else resize_shape(height, width, size.shorter, size.longer)


def resize_image(array: Array8, height: int, width: int, resampling: Resampling = "pillow") -> Array8:
    """(H, W, 3) uint8 → (height, width, 3) uint8, with the bilinear filter of Pillow or of OpenCV."""
    if resampling == "opencv":
        return resize_like_opencv(array, height, width)
    return np.asarray(Image.fromarray(array).resize((width, height), Image.Resampling.BILINEAR))


def augment(
    image: Array8,
    config: AugmentConfig,
    rng: np.random.Generator,
    resampling: Resampling = "pillow",
    stretch: bool = False,
    view: View | None = None,
    fill: tuple[int, int, int] = (0, 0, 0),
) -> Augmented:
    """Resize, jitter the scale, crop, flip, turn and recolour (H, W, 3) uint8 RGB, as `config` says and `rng` draws.

    stretch: resize to a square with sides of `config.longer`, see `InputConfig`. view: the part of the picture to show;
    None shows all. fill: RGB where the view reaches outside of the picture.
    """
    return finish(*_resize_and_crop(image, config, rng, resampling, stretch, view, fill), config, rng)


def finish(picture: Image.Image, matrix: Matrix, config: AugmentConfig, rng: np.random.Generator) -> Augmented:
    """Recolour, flip and turn a picture that has its size. `matrix` is the one so far."""
    recoloured = np.asarray(_recolour(picture, config, rng))
    if config.distort:
        recoloured = distort(recoloured, draw_distortion(rng))
    if any(config.hsv):
        recoloured = shift_hsv(recoloured, draw_shifts(config.hsv, rng))
    height, width = recoloured.shape[:2]
    if rng.random() < config.flip_horizontal:
        recoloured, matrix = recoloured[:, ::-1], then([[-1, 0, width], [0, 1, 0]], matrix)
    if rng.random() < config.flip_vertical:
        recoloured, matrix = recoloured[::-1], then([[1, 0, 0], [0, -1, height]], matrix)
    for _ in range(rng.integers(4) if config.turns else 0):
        # counter-clockwise: the right edge becomes the top
        matrix = then([[0, 1, 0], [-1, 0, recoloured.shape[1]]], matrix)
        recoloured = np.rot90(recoloured)
    return Augmented(np.ascontiguousarray(recoloured), matrix)


def draw_factor(config: AugmentConfig, rng: np.random.Generator) -> float:
    """Draw the factor of the size from `config.jitter`."""
    low, high = config.jitter
    if config.jitter_scale == "linear":
        return float(rng.uniform(low, high))
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def resize_part(image: Array8, box: Box, height: int, width: int, resampling: Resampling) -> Image.Image:
    """Resize the part `box` of (H, W, 3) uint8 to (height, width) pixels.

    Only this part is resized, which saves time.
    """
    rows, columns = image.shape[:2]
    box = (box[0], box[1], min(box[2], columns), min(box[3], rows))
    picture = Image.fromarray(image)
    if resampling == "pillow":
        return picture.resize((width, height), Image.Resampling.BILINEAR, box=box)
    step_x, step_y = (box[2] - box[0]) / width, (box[3] - box[1]) / height
    terms = (step_x, 0, box[0], 0, step_y, box[1])
    return picture.transform((width, height), Image.Transform.AFFINE, terms, Image.Resampling.BILINEAR)


def _resize_and_crop(
    image: Array8,
    config: AugmentConfig,
    rng: np.random.Generator,
    resampling: Resampling,
    stretch: bool,
    view: View | None,
    fill: tuple[int, int, int],
) -> tuple[Image.Image, Matrix]:
    shown = view or View(0, 0, image.shape[1], image.shape[0])
    factor = draw_factor(config, rng)
    shorter = config.shorter[rng.integers(len(config.shorter))]
    if stretch:
        height = width = max(int(config.longer * factor + 0.5), 1)
    else:
        height, width = resize_shape(shown.height, shown.width, shorter * factor, config.longer * factor)
    scale_x, scale_y = width / shown.width, height / shown.height
    crop_width, crop_height = (min(side, config.crop or side) for side in (width, height))
    left, top = int(rng.integers(width - crop_width + 1)), int(rng.integers(height - crop_height + 1))
    x0, y0 = shown.x + left / scale_x, shown.y + top / scale_y
    box = (x0, y0, x0 + crop_width / scale_x, y0 + crop_height / scale_y)
    if _is_inside(shown, image):
        picture = resize_part(image, box, crop_height, crop_width, resampling)
    else:
        terms, size = (1 / scale_x, 0, x0, 0, 1 / scale_y, y0), (crop_width, crop_height)
        bilinear, affine = Image.Resampling.BILINEAR, Image.Transform.AFFINE
        picture = Image.fromarray(image).transform(size, affine, terms, bilinear, fillcolor=fill)
    x, y = -left - shown.x * scale_x, -top - shown.y * scale_y
    return picture, np.array([[scale_x, 0, x], [0, scale_y, y]], dtype=np.float64)


def _is_inside(view: View, image: Array8) -> bool:
    height, width = image.shape[:2]
    return view.x >= 0 and view.y >= 0 and view.x + view.width <= width and view.y + view.height <= height


def _recolour(picture: Image.Image, config: AugmentConfig, rng: np.random.Generator) -> Image.Image:
    """Change the colours. Factors are uniform in [1 − strength, 1 + strength].

    torchvision is fastest on Pillow images.
    """
    from torchvision.transforms import (
        functional,  # loading torchvision takes seconds; `data check` needs only the sizes
    )

    if config.brightness:
        picture = functional.adjust_brightness(picture, rng.uniform(1 - config.brightness, 1 + config.brightness))
    if config.contrast:
        picture = functional.adjust_contrast(picture, rng.uniform(1 - config.contrast, 1 + config.contrast))
    if config.saturation:
        picture = functional.adjust_saturation(picture, rng.uniform(1 - config.saturation, 1 + config.saturation))
    if config.hue:
        picture = functional.adjust_hue(picture, rng.uniform(-config.hue, config.hue))
    return picture


def then(step: list[list[int]] | Matrix, matrix: Matrix) -> Matrix:
    """Return the matrix that applies `matrix` first and `step` second."""
    second = np.asarray(step, dtype=np.float64)
    product: Matrix = second[:, :2] @ matrix
    product[:, 2] += second[:, 2]
    return product

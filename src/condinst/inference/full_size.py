"""Masks in pixels of the original image, by resizing whole images. This is the definition of a mask (paper §3.4).

Shapes: K instances of one image, h×w the logits at the stride of the mask features, s the mask_out_stride.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from condinst.config import Config
from condinst.ops.masks import enlarge
from condinst.structures import MASK_FEATURE_STRIDE, Enlarging, Images

Size = tuple[int, int]


class Placement(NamedTuple):
    """How masks are placed in the original image.

    stride: s, the stride of the probabilities. size: (height, width) of the image inside the padded input.
    original: (height, width) of the image in its file. threshold: in (0, 1); a mask pixel has a higher probability.
    enlarging, mask_stride: see `condinst.structures.Geometry`. exchanged: with "bilinear", enlarge the whole padded
    input, and exchange the factors of height and width, see `DetectConfig.exchange_scales`.
    """

    stride: int
    size: Size
    original: Size
    threshold: float
    enlarging: Enlarging = "aligned"
    exchanged: bool = False
    mask_stride: int = MASK_FEATURE_STRIDE

    @classmethod
    def of(cls, images: Images, index: int, config: Config) -> Placement:
        """The placement in one of the images."""
        return cls(
            config.model.mask_head.mask_out_stride,
            images.sizes[index],
            images.original_sizes[index],
            config.detect.mask_threshold,
            config.model.geometry.enlarging,
            config.detect.exchange_scales,
            config.model.geometry.mask_stride,
        )

    @property
    def growth(self) -> int:
        """The factor from the values to stride 1 of the padded input, before the last resize."""
        return 1 if self.enlarging == "stretched" else self.mask_stride

    def resize(self, cells: Size) -> Resize:
        """The last resize, for values of `cells` = (h, w)."""
        if self.enlarging == "stretched":
            return Resize(cells, self.original)
        if self.enlarging != "bilinear" or not self.exchanged:
            return Resize(self.size, self.original)
        height, width = (self.mask_stride * side for side in cells)
        scales = [small / large for small, large in zip(self.size, self.original, strict=True)]
        return Resize((height, width), (math.ceil(height * (1 / scales[1])), math.ceil(width * (1 / scales[0]))))


class Resize(NamedTuple):
    """The last resize: the part `source` (height, width) of the padded input becomes `target` (height, width).

    The original image is the top left part of `target`. A target that is smaller leaves the rest without a mask.
    """

    source: Size
    target: Size


def place_full(logits: Tensor, placement: Placement) -> Tensor:
    """The values of drawn masks (K, h, w) → masks (K, *original) bool.

    The steps of "aligned" enlarging: enlarge logits to stride s, sigmoid, enlarge to stride 1, crop, resize. The steps
    of "bilinear" enlarging: enlarge logits to stride 1, crop, resize, sigmoid. "soft" and "stretched" values are
    probabilities: "soft" takes the steps of "bilinear" without the sigmoid, and "stretched" only resizes.
    """
    height, width = placement.original
    resize = placement.resize(_cells(logits))
    values = F.interpolate(_at_stride_1(logits, placement), resize.target, mode="bilinear", align_corners=False)[:, 0]
    masks = _probability(values[:, :height, :width], placement) > placement.threshold
    return F.pad(masks, (0, width - masks.shape[2], 0, height - masks.shape[1]))


def full_size_values(logits: Tensor, placement: Placement, pixels: Tensor) -> Tensor:
    """The values (n,) that `place_full` compares with the threshold at some pixels, bit for bit.

    logits: (h, w) of one instance. pixels: (n, 2) int64, the (y, x) in the original image, which has at least
    SMALL_IMAGE pixels. The last resize mixes two neighbours in each of two rows and then the two results. So the
    function runs it on the rows of each pixel and then on the column alone.
    """
    y, x = pixels.unbind(dim=1)
    (rows, _), (height, width) = placement.resize(_cells(logits))
    above = ((y + 0.5) * rows / height - 0.5).floor().long()
    # one more row on each side, because the float32 arithmetic of the resize may round across a whole number
    near = (above[:, None] + torch.arange(-1, 3)).clamp(0, rows - 1)
    first, padded = _rows_at_stride_1(logits, placement, int(near.min()), int(near.max()))
    across = F.interpolate(padded[near - first][:, None], (4, width), mode="bilinear", align_corners=False)
    there = across[:, 0].gather(2, x[:, None, None].expand(-1, 4, 1))[:, :, 0]
    columns = padded.new_zeros(rows, len(pixels)).scatter_(0, near.T, there.T)
    down = F.interpolate(columns[None, None], (height, len(pixels)), mode="bilinear", align_corners=False)
    return _probability(down[0, 0].gather(0, y[None])[0], placement)


def _cells(logits: Tensor) -> Size:
    return logits.shape[-2], logits.shape[-1]


def _at_stride_1(logits: Tensor, placement: Placement) -> Tensor:
    """Logits (K, h, w) → the input of the last resize (K, 1, *source): probabilities, with "bilinear" logits."""
    maps = logits[:, None]
    if placement.enlarging == "aligned":
        probabilities = enlarge(maps, placement.mask_stride // placement.stride, "aligned").sigmoid()
        large = enlarge(probabilities, placement.stride, "aligned")
    else:
        large = enlarge(maps, placement.growth, "bilinear")
    height, width = placement.resize(_cells(logits)).source
    return large[:, :, :height, :width]


def _rows_at_stride_1(logits: Tensor, placement: Placement, first: int, last: int) -> tuple[int, Tensor]:
    """The input of the last resize for logits (h, w): rows that include `first` to `last`, after the first one's index.

    Bilinear enlarging by 8 or 4 is exact in its positions, so it gives the same bits for a part of the rows.
    """
    if placement.enlarging == "aligned":
        return 0, _at_stride_1(logits[None], placement)[0, 0]
    factor = placement.growth
    start, end = max(first // factor - 1, 0), last // factor + 2
    large = enlarge(logits[None, None, start:end], factor, "bilinear")[0, 0]
    return start * factor, large[:, : placement.resize(_cells(logits)).source[1]]


def _probability(values: Tensor, placement: Placement) -> Tensor:
    return values.sigmoid() if placement.enlarging == "bilinear" else values

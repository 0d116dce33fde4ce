"""Masks and boxes of the detected instances in pixels of the original image (paper §3.4).

`place_full` defines the masks by resizing whole images. `place` computes the same masks from the region of each
instance.

Shapes: K instances of one image, h×w the logits at the stride of the mask features, s the mask_out_stride, H×W the
padded input.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from condinst.inference.detect import take
from condinst.inference.instances.boxes import Boxes
from condinst.inference.instances.masks import Masks
from condinst.inference.logits import mask_logits
from condinst.inference.result import Result
from condinst.inference.taps import Axis, Spans, mix
from condinst.ops.bitmaps.rle import Region, Rle, encode
from condinst.ops.boxes import scale_boxes
from condinst.ops.masks import aligned_bilinear
from condinst.settings.model import ModelConfig
from condinst.settings.prediction import DetectConfig
from condinst.structures import MASK_FEATURE_STRIDE, Detections, Images, NetworkOutput

Size = tuple[int, int]
# The two ways differ by a few float32 roundings of numbers ≤ 1. A pixel is "close" to the threshold within twice that.
ROUNDING = 1e-6
# Up to this number, close pixels are computed again one by one. Above it, or in a small image, the whole instance is.
CLOSE_PIXELS = 64
SMALL_IMAGE = 2**16  # pixels; PyTorch adds in another order in small images, where the full size is cheap
# Instances share a computation if their common window is small or at most twice what they need, and fits the cache.
SMALL_WINDOW, GROUP_PIXELS = 2**13, 2**18
BAND_PIXELS = 2**20  # pixels of a larger window that are computed at a time; bounds the memory
NOTHING = Region(np.zeros((0, 0), dtype=np.bool_), 0, 0)


class Placement(NamedTuple):
    """How masks are placed in the original image.

    stride: s, the stride of the probabilities. size: (height, width) of the image inside the padded input.
    original: (height, width) of the image in its file. threshold: in (0, 1); a mask pixel has a higher probability.
    """

    stride: int
    size: Size
    original: Size
    threshold: float


def assemble(
    output: NetworkOutput, found: Sequence[Detections], images: Images, model: ModelConfig, config: DetectConfig
) -> list[Result]:
    """Make one Result for each image.

    Boxes are scaled to the original image and clipped to it. An instance with an empty box is dropped. Masks are not
    clipped to boxes.
    """
    names = dict(enumerate(model.classes))
    results = []
    for index, detections in enumerate(found):
        size, original = images.sizes[index], images.original_sizes[index]
        boxes = scale_boxes(detections.boxes, size, original)
        visible = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        detections, boxes = take(detections, visible), boxes[visible]
        placement = Placement(model.mask_head.mask_out_stride, size, original, config.mask_threshold)
        rles: list[Rle] = []
        for logits in mask_logits(output.mask_features[index], detections, model):
            rles += place(logits.cpu(), placement)
        shown = Boxes(boxes.float().cpu(), detections.scores.float().cpu(), detections.labels.cpu(), original)
        results.append(Result(shown, Masks(tuple(rles), original), names, original))
    return results


def place_full(logits: Tensor, placement: Placement) -> Tensor:
    """Mask logits (K, h, w) → masks (K, *original) bool, by resizing whole images. This is the definition of a mask."""
    return _resize(_probabilities(logits, placement), placement) > placement.threshold


def place(logits: Tensor, placement: Placement) -> list[Rle]:
    """The masks of `place_full` as RLE, bit for bit, at the cost of each instance's own region.

    logits: (K, h, w) float32 on the CPU.

    All steps before and after the sigmoid are linear, separable and convex. So a pixel above the threshold lies near a
    logit above the threshold, and one short weighted sum along each axis replaces all steps after the sigmoid. Near the
    threshold the order of additions can decide. The full-size steps compute these pixels again, and only these.
    """
    axes = [
        Axis.of(cells, content, original, placement.stride)
        for cells, content, original in zip(logits.shape[1:], placement.size, placement.original, strict=True)
    ]
    lowest = placement.threshold - ROUNDING
    above = logits > (math.log(lowest / (1 - lowest)) if lowest > 0 else -math.inf)
    windows = torch.stack((axes[0].reached(above.any(dim=2)), axes[1].reached(above.any(dim=1))), dim=1)
    rles: dict[int, Rle] = {}
    for group in _groups(axes, windows):
        regions = _place_group(logits[group], axes, windows[group], placement)
        rles |= {one: encode(region, *placement.original) for one, region in zip(group, regions, strict=True)}
    return [rles.get(one) or encode(NOTHING, *placement.original) for one in range(len(logits))]


def full_size_values(logits: Tensor, placement: Placement, pixels: Tensor) -> Tensor:
    """The values (n,) that `place_full` compares with the threshold at some pixels, bit for bit.

    logits: (h, w) of one instance. pixels: (n, 2) int64, the (y, x) in the original image, which has at least
    SMALL_IMAGE pixels. The last resize mixes two neighbours in each of two rows and then the two results. So the
    function runs it on the rows of each pixel and then on the column alone.
    """
    y, x = pixels.unbind(dim=1)
    height, width = placement.original
    padded = _pad_up(_probabilities(logits[None], placement), placement)[0, 0]
    above = ((y + 0.5) * len(padded) / height - 0.5).floor().long()
    # one more row on each side, because the float32 arithmetic of the resize may round across a whole number
    near = (above[:, None] + torch.arange(-1, 3)).clamp(0, len(padded) - 1)
    across = F.interpolate(padded[near][:, None], (4, width), mode="bilinear", align_corners=False)
    there = across[:, 0].gather(2, x[:, None, None].expand(-1, 4, 1))[:, :, 0]
    columns = padded.new_zeros(len(padded), len(pixels)).scatter_(0, near.T, there.T)
    down = F.interpolate(columns[None, None], (height, len(pixels)), mode="bilinear", align_corners=False)
    return down[0, 0].gather(0, y[None])[0]


def _probabilities(logits: Tensor, placement: Placement) -> Tensor:
    """Logits (K, h, w) → probabilities (K, 8h/s, 8w/s)."""
    return aligned_bilinear(logits[:, None], MASK_FEATURE_STRIDE // placement.stride)[:, 0].sigmoid()


def _pad_up(probabilities: Tensor, placement: Placement) -> Tensor:
    """Probabilities (K, 8h/s, 8w/s) → (K, 1, *size), without the padding."""
    padded = aligned_bilinear(probabilities[:, None], placement.stride)
    return padded[:, :, : placement.size[0], : placement.size[1]]


def _resize(probabilities: Tensor, placement: Placement) -> Tensor:
    """Probabilities (K, 8h/s, 8w/s) → (K, *original)."""
    padded = _pad_up(probabilities, placement)
    return F.interpolate(padded, placement.original, mode="bilinear", align_corners=False)[:, 0]


def _extents(axes: list[Axis], windows: Tensor) -> Tensor:
    """The largest number of values that each window needs along y and x: (K, 2). windows: (K, 2, 2), none empty."""
    ends = torch.stack((windows, torch.stack([axes[i].needed(windows[:, i]) for i in range(2)], dim=1)))
    extents: Tensor = (ends[..., 1] - ends[..., 0]).amax(dim=0)
    return extents


def _groups(axes: list[Axis], windows: Tensor) -> Iterator[list[int]]:
    """Groups of instances with windows (K, 2, 2) of similar size, which are computed together.

    For small windows, calls cost more than arithmetic. Instances with an empty window are in no group.
    """
    shown = (windows[..., 0] < windows[..., 1]).all(dim=1).nonzero()[:, 0]
    extents: list[list[int]] = _extents(axes, windows[shown]).tolist()
    group: list[int] = []
    height = width = needed = 0
    # sort by area, then by height: a tall, thin window does not share a group with a wide, flat one
    likeness = ((h * w).bit_length() for h, w in extents)
    for _, (h, w), one in sorted(zip(likeness, extents, shown.tolist(), strict=True)):
        height, width, needed = max(height, h), max(width, w), needed + h * w
        joint, count = height * width, len(group) + 1
        if group and (joint * count > max(2 * needed, SMALL_WINDOW * count) or joint * count > GROUP_PIXELS):
            yield group
            group, height, width, needed = [], h, w, h * w
        group.append(one)
    if group:
        yield group


def _place_group(logits: Tensor, axes: list[Axis], windows: Tensor, placement: Placement) -> Iterator[Region]:
    """The masks of K instances from logits (K, h, w). windows: (K, 2, 2), first and end pixel along y and x."""
    if len(windows) == 1:
        drawn = [_draw_in_bands(logits, axes, windows, placement.threshold)]
    else:
        drawn = _draw(logits, axes, windows, placement.threshold)
    for map_, (mask, close), corner in zip(logits, drawn, windows[..., 0], strict=True):
        if len(close):
            mask = _settle(mask, close, map_, corner, placement)
        y, x = corner.tolist()
        yield Region(mask, x, y)


class _Drawn(NamedTuple):
    """An instance inside its window. close: (n, 2) int64, the (y, x) of pixels that are close to the threshold."""

    mask: NDArray[np.bool_]
    close: Tensor


def _draw_in_bands(logits: Tensor, axes: list[Axis], window: Tensor, threshold: float) -> _Drawn:
    """One instance with logits (1, h, w) and window (1, 2, 2), some rows at a time, because it may be very large."""
    (top, bottom), (left, right) = window[0].tolist()
    mask = np.empty((bottom - top, right - left), dtype=np.bool_)
    close = []
    bands = math.ceil(math.prod(_extents(axes, window)[0].tolist()) / BAND_PIXELS)
    step = math.ceil(len(mask) / bands)
    for first in range(0, len(mask), step):
        band = window.clone()
        band[0, 0] = band.new_tensor([top + first, min(top + first + step, bottom)])
        (drawn,) = _draw(logits, axes, band, threshold)
        mask[first : first + step] = drawn.mask
        close.append(drawn.close + drawn.close.new_tensor([first, 0]))
    return _Drawn(mask, torch.cat(close))


def _draw(logits: Tensor, axes: list[Axis], windows: Tensor, threshold: float) -> list[_Drawn]:
    """The masks of K instances with logits (K, h, w) and windows (K, 2, 2).

    All are computed in the size of the largest window and then cropped to their own windows.
    """
    rows, columns = (Spans.of(axes[i], windows[:, i], logits.shape[1 + i]) for i in range(2))
    everyone = torch.arange(len(logits))[:, None, None]
    cells = logits[everyone, rows.cells[:, :, None], columns.cells[:, None, :]]
    enlarged = mix(mix(cells, rows.enlarge).mT, columns.enlarge)  # (K, columns, rows)
    values = mix(mix(enlarged.sigmoid_(), columns.place).mT, rows.place)
    masks = (values > threshold).numpy()
    sizes = windows[..., 1] - windows[..., 0]
    close = (values.sub_(threshold).abs_() < ROUNDING).nonzero()
    close = close[(close[:, 1:] < sizes[close[:, 0]]).all(dim=1)]
    return [
        _Drawn(mask[:height, :width], near[: CLOSE_PIXELS + 1])  # one above the limit: `_settle` computes the whole
        for mask, near, (height, width) in zip(masks, _by_instance(close, len(logits)), sizes.tolist(), strict=True)
    ]


def _settle(
    mask: NDArray[np.bool_], close: Tensor, logits: Tensor, corner: Tensor, placement: Placement
) -> NDArray[np.bool_]:
    """The mask with its pixels `close` (n, 2) computed by the full-size steps. corner: (y, x) of its window."""
    if len(close) > CLOSE_PIXELS or math.prod(placement.original) < SMALL_IMAGE:
        whole: NDArray[np.bool_] = place_full(logits[None], placement)[0].numpy()
        y, x = corner.tolist()
        return whole[y : y + mask.shape[0], x : x + mask.shape[1]]
    exact = full_size_values(logits, placement, close + corner)
    mask[close[:, 0], close[:, 1]] = (exact > placement.threshold).numpy()
    return mask


def _by_instance(rows: Tensor, count: int) -> Sequence[Tensor]:
    """Split rows (n, 3), sorted by instance number in the first column, into the other columns for each instance."""
    return torch.split(rows[:, 1:], torch.bincount(rows[:, 0], minlength=count).tolist())

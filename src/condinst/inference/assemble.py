"""Dynamic mask head on the survivors → masks and boxes in the original image's pixels → Result (paper §3.4).

K instances of one image, h×w their logits at the stride of the mask features, s mask_out_stride, H×W the padded input.
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

from condinst.config import DetectConfig, ModelConfig
from condinst.inference.detect import take
from condinst.inference.instances.boxes import Boxes
from condinst.inference.instances.masks import Masks
from condinst.inference.logits import mask_logits
from condinst.inference.result import Result
from condinst.inference.taps import Axis, Spans, mix
from condinst.ops.boxes import scale_boxes
from condinst.ops.masks import aligned_bilinear
from condinst.ops.rle import Region, Rle, encode
from condinst.structures import MASK_FEATURE_STRIDE, Detections, Images, NetworkOutput

Size = tuple[int, int]
# Region and full-size arithmetic differ by a few float32 roundings of numbers ≤ 1; twice that decides what is "close".
ROUNDING = 1e-6
# Close pixels are settled one by one; where there are more, or the image is small, the whole instance is.
CLOSE_PIXELS = 64
SMALL_IMAGE = 2**16  # pixels; torch adds in another order for the smallest, and there full size costs nothing
# Instances are drawn together while the window all fit into is small, or twice what they need, and all fit a cache.
SMALL_WINDOW, GROUP_PIXELS = 2**13, 2**18
BAND_PIXELS = 2**20  # of a larger window, so many at a time: numbers take 4 bytes and more copies than one
NOTHING = Region(np.zeros((0, 0), dtype=np.bool_), 0, 0)


class Placement(NamedTuple):
    """Where masks go. stride: s, of the probabilities. size: (height, width) of the content inside the padded input.

    original: (height, width) of the file. threshold: in (0, 1), what a probability must exceed.
    """

    stride: int
    size: Size
    original: Size
    threshold: float


def assemble(
    output: NetworkOutput, found: Sequence[Detections], images: Images, model: ModelConfig, config: DetectConfig
) -> list[Result]:
    """One Result per image: boxes scaled and clipped, instances with an empty box dropped, masks never cut to boxes."""
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
    """The definition: mask logits (K, h, w) → (K, *original) bool, by way of the padded input."""
    return _resize(_probabilities(logits, placement), placement) > placement.threshold


def place(logits: Tensor, placement: Placement) -> list[Rle]:
    """`place_full` as RLE, bit for bit, at the cost of each instance's own region instead of the whole image.

    Before and after the sigmoid every step is linear, separable and convex. So what ends above the threshold began
    above it within reach, and one short mix along each axis does all steps behind the sigmoid at once. Pixels so close
    to the threshold that the order of additions could decide are settled by the full-size steps themselves, run for
    those pixels only. logits: (K, h, w) float32 on the CPU.
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
    """What `place_full` compares with the threshold at `pixels` (n, 2) int64 (y, x) of the original: (n,).

    The same bits, for logits (h, w) of one instance and originals of at least SMALL_IMAGE pixels. The last resize mixes
    two neighbours in each of two rows and then the two results, so it can be run on the rows of each pixel, then on its
    column alone.
    """
    y, x = pixels.unbind(dim=1)
    height, width = placement.original
    padded = _pad_up(_probabilities(logits[None], placement), placement)[0, 0]
    above = ((y + 0.5) * len(padded) / height - 0.5).floor().long()
    # one row more on either side, should the resize's own float32 arithmetic round across a whole number
    near = (above[:, None] + torch.arange(-1, 3)).clamp(0, len(padded) - 1)
    across = F.interpolate(padded[near][:, None], (4, width), mode="bilinear", align_corners=False)
    there = across[:, 0].gather(2, x[:, None, None].expand(-1, 4, 1))[:, :, 0]
    columns = padded.new_zeros(len(padded), len(pixels)).scatter_(0, near.T, there.T)
    down = F.interpolate(columns[None, None], (height, len(pixels)), mode="bilinear", align_corners=False)
    return down[0, 0].gather(0, y[None])[0]


def _probabilities(logits: Tensor, placement: Placement) -> Tensor:
    """(K, h, w) → (K, 8h/s, 8w/s)."""
    return aligned_bilinear(logits[:, None], MASK_FEATURE_STRIDE // placement.stride)[:, 0].sigmoid()


def _pad_up(probabilities: Tensor, placement: Placement) -> Tensor:
    """(K, 8h/s, 8w/s) → (K, 1, *size)."""
    padded = aligned_bilinear(probabilities[:, None], placement.stride)
    return padded[:, :, : placement.size[0], : placement.size[1]]


def _resize(probabilities: Tensor, placement: Placement) -> Tensor:
    """(K, 8h/s, 8w/s) → (K, *original)."""
    padded = _pad_up(probabilities, placement)
    return F.interpolate(padded, placement.original, mode="bilinear", align_corners=False)[:, 0]


def _extents(axes: list[Axis], windows: Tensor) -> Tensor:
    """Along each axis the numbers that windows (K, 2, 2), none empty, take where they are most: (K, 2)."""
    ends = torch.stack((windows, torch.stack([axes[i].needed(windows[:, i]) for i in range(2)], dim=1)))
    extents: Tensor = (ends[..., 1] - ends[..., 0]).amax(dim=0)
    return extents


def _groups(axes: list[Axis], windows: Tensor) -> Iterator[list[int]]:
    """Instances to draw together, of like windows (K, 2, 2): where they are small, calls cost more than numbers.

    Those without a pixel are left out.
    """
    shown = (windows[..., 0] < windows[..., 1]).all(dim=1).nonzero()[:, 0]
    extents: list[list[int]] = _extents(axes, windows[shown]).tolist()
    group: list[int] = []
    height = width = needed = 0
    # of like area first, then of like height: thin upright windows share none with thin lying ones
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
    """The masks of K instances, (K, h, w) logits, each inside its window (K, 2, 2): first and end along y and x."""
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
    """An instance inside its window. close: (n, 2) int64 (y, x), pixels of it that are yet to be settled."""

    mask: NDArray[np.bool_]
    close: Tensor


def _draw_in_bands(logits: Tensor, axes: list[Axis], window: Tensor, threshold: float) -> _Drawn:
    """One instance, (1, h, w) logits and (1, 2, 2) window, some rows at a time: a mask may fill the largest picture."""
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
    """The masks of K instances, (K, h, w) logits, in windows (K, 2, 2).

    All are computed at the size of the largest; what lies outside an instance's own window is thrown away.
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
        _Drawn(mask[:height, :width], near[: CLOSE_PIXELS + 1])  # with one more than that, the whole is settled
        for mask, near, (height, width) in zip(masks, _by_instance(close, len(logits)), sizes.tolist(), strict=True)
    ]


def _settle(
    mask: NDArray[np.bool_], close: Tensor, logits: Tensor, corner: Tensor, placement: Placement
) -> NDArray[np.bool_]:
    """The mask, whose window begins at `corner` (y, x), with its pixels `close` (n, 2) decided by full-size steps."""
    if len(close) > CLOSE_PIXELS or math.prod(placement.original) < SMALL_IMAGE:
        whole: NDArray[np.bool_] = place_full(logits[None], placement)[0].numpy()
        y, x = corner.tolist()
        return whole[y : y + mask.shape[0], x : x + mask.shape[1]]
    exact = full_size_values(logits, placement, close + corner)
    mask[close[:, 0], close[:, 1]] = (exact > placement.threshold).numpy()
    return mask


def _by_instance(rows: Tensor, count: int) -> Sequence[Tensor]:
    """Rows (n, 3) that begin with an instance's number, ascending → what follows it, by instance."""
    return torch.split(rows[:, 1:], torch.bincount(rows[:, 0], minlength=count).tolist())

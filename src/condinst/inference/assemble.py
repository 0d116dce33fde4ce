"""Dynamic mask head on the survivors → masks and boxes in the original image's pixels → Result (spec §4, 3 and 4).

K instances of one image, h×w their logits at the stride of the mask features, s mask_out_stride, H×W the padded input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from condinst.config import DetectConfig, ModelConfig
from condinst.inference.detect import take
from condinst.inference.logits import mask_logits
from condinst.inference.result import Boxes, Masks, Result
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
COMB = 8  # more than the inputs one output pixel mixes


class Taps(NamedTuple):
    """How each of O output pixels mixes T neighbouring inputs along one axis: Σ weights[o, t] · input[start[o] + t].

    start: (O,) int64, ascending. weights: (O, T) float32, ≥ 0, rows summing to 1.
    """

    start: Tensor
    weights: Tensor


class Axis(NamedTuple):
    """What happens along one axis: logits to probabilities at stride s (before the sigmoid), those to the original."""

    enlarge: Taps
    place: Taps


class Window(NamedTuple):
    """The part of one axis that an instance needs. inner: of the probabilities. outer: of the original's pixels."""

    inner: slice
    outer: slice


EMPTY = Window(slice(0, 0), slice(0, 0))


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
        shown = Boxes(boxes.float().cpu(), detections.scores.float().cpu(), detections.labels.cpu())
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
        _make_axis(cells, content, original, placement.stride)
        for cells, content, original in zip(logits.shape[1:], placement.size, placement.original, strict=True)
    ]
    lowest = placement.threshold - ROUNDING
    above = logits > (math.log(lowest / (1 - lowest)) if lowest > 0 else -math.inf)
    windows = zip(_windows(axes[0], above.any(dim=2)), _windows(axes[1], above.any(dim=1)), strict=True)
    return [
        encode(_place_region(map_, axes, window, placement), *placement.original)
        for map_, window in zip(logits, windows, strict=True)
    ]


def make_taps(cells: int, stride: int, content: int, original: int) -> Taps:
    """The mix along one axis from `cells` probabilities to `original` pixels, read off the full-size steps.

    Few neighbouring cells reach an output, so a comb of COMB rows, each with a one in every COMB-th cell, tells all.
    """
    teeth = min(COMB, cells)
    comb = (torch.arange(cells) % teeth == torch.arange(teeth)[:, None]).float()
    padded = aligned_bilinear(comb[:, None, :, None].expand(-1, -1, -1, 1), stride)[:, :, :content, :1]
    seen = F.interpolate(padded, (original, 1), mode="bilinear", align_corners=False)[:, 0, :, 0].T  # (O, teeth)
    centre = ((torch.arange(original) + 0.5) * content / original - 0.5 - stride // 2) / stride
    first = (centre.floor().long() - (teeth // 2 - 1)).clamp(0, cells - teeth)
    weights = seen.gather(1, (first[:, None] + torch.arange(teeth)) % teeth)
    skipped, end = _ends(weights != 0)
    count = int((end - skipped).max())
    skipped = skipped.clamp(max=teeth - count)
    return Taps(first + skipped, weights.gather(1, skipped[:, None] + torch.arange(count)))


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


def _make_axis(cells: int, content: int, original: int, stride: int) -> Axis:
    factor = MASK_FEATURE_STRIDE // stride
    return Axis(_enlarging(cells, factor), make_taps(cells * factor, stride, content, original))


def _enlarging(cells: int, factor: int) -> Taps:
    """Aligned bilinear along one axis, as a mix of two inputs."""
    position = (torch.arange(cells * factor) - factor // 2).clamp(min=0) / factor
    start = position.floor().clamp(max=max(cells - 2, 0)).long()
    share = (position - start).clamp(max=1)
    both = torch.stack((1 - share, share), dim=1)
    return Taps(start, both[:, : min(cells, 2)])


def _ends(used: Tensor) -> tuple[Tensor, Tensor]:
    """First and one past the last True of each row (K, n): two (K,); 0 and n where there is none."""
    return used.int().argmax(dim=1), used.shape[1] - used.flip(1).int().argmax(dim=1)


def _windows(axis: Axis, used: Tensor) -> list[Window]:
    """What to compute along one axis for each row of `used` (K, n): where its logits reach the lowest value."""
    n = used.shape[1]
    first, last = _ends(used)
    last = last * used.any(dim=1)  # 0 where there is none
    factor = len(axis.enlarge.start) // n
    # an enlarged pixel that is high enough lies less than a cell from such a logit
    low, high = (factor * (first - 1)).clamp(min=0), (factor * (last + 1)).clamp(max=factor * n)
    place, reach = axis.place, axis.place.weights.shape[1]
    outputs = torch.searchsorted(place.start + reach, low, right=True), torch.searchsorted(place.start, high)
    inner = (low - reach).clamp(min=0), (high + reach).clamp(max=factor * n)
    return [
        Window(slice(*inner_range), slice(*output_range)) if some else EMPTY
        for inner_range, output_range, some in zip(
            torch.stack(inner, dim=1).tolist(), torch.stack(outputs, dim=1).tolist(), last.tolist(), strict=True
        )
    ]


def _place_region(logits: Tensor, axes: list[Axis], windows: tuple[Window, Window], placement: Placement) -> Region:
    """The mask of one instance, (h, w), inside its windows along y and x."""
    (inner_y, outer_y), (inner_x, outer_x) = windows
    if outer_y.start >= outer_y.stop or outer_x.start >= outer_x.stop:
        return Region(np.zeros((0, 0), dtype=np.bool_), 0, 0)
    rows, columns = axes
    enlarged = _mix(_mix(logits, rows.enlarge, inner_y).T, columns.enlarge, inner_x)  # transposed
    across = _mix(enlarged.sigmoid_(), columns.place, outer_x, inner_x.start)
    values = _mix(across.T, rows.place, outer_y, inner_y.start)
    mask = values > placement.threshold
    close = ((values - placement.threshold).abs_() < ROUNDING).nonzero()
    if len(close) > CLOSE_PIXELS or (len(close) and math.prod(placement.original) < SMALL_IMAGE):
        mask = place_full(logits[None], placement)[0, outer_y, outer_x]
    elif len(close):
        exact = full_size_values(logits, placement, close + close.new_tensor([outer_y.start, outer_x.start]))
        mask[close[:, 0], close[:, 1]] = exact > placement.threshold
    return Region(mask.numpy(), outer_x.start, outer_y.start)


def _mix(values: Tensor, taps: Taps, outputs: slice, first: int = 0) -> Tensor:
    """The given outputs of `taps` (O, m) from rows of values (n, m), which begin with input `first`."""
    start, weights = taps.start[outputs] - first, taps.weights[outputs]
    mixed = values.index_select(0, start).mul_(weights[:, :1])
    for tap in range(1, weights.shape[1]):
        mixed.addcmul_(values.index_select(0, start + tap), weights[:, tap : tap + 1])
    return mixed

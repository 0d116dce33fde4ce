"""Dynamic mask head on the survivors → masks and boxes in the original image's pixels → Result (spec §4, 3 and 4).

K instances of one image, h×w their logits at the stride of the mask features, s mask_out_stride, H×W the padded input.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
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
# Instances are computed together while the largest is at most twice the smallest, or that small, and all fit a cache.
SMALL_WINDOW, GROUP_PIXELS = 2**13, 2**18
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
    windows = list(zip(_windows(axes[0], above.any(dim=2)), _windows(axes[1], above.any(dim=1)), strict=True))
    regions = [Region(np.zeros((0, 0), dtype=np.bool_), 0, 0)] * len(windows)
    for group in _groups([_area(both) for both in windows]):
        drawn = _place_group(logits[group], axes, [windows[one] for one in group], placement)
        for one, region in zip(group, drawn, strict=True):
            regions[one] = region
    return [encode(region, *placement.original) for region in regions]


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


def _area(windows: tuple[Window, Window]) -> int:
    """Pixels of the original in it."""
    (_, rows), (_, columns) = windows
    area: int = max(rows.stop - rows.start, 0) * max(columns.stop - columns.start, 0)
    return area


def _groups(areas: Sequence[int]) -> Iterator[list[int]]:
    """Instances to compute together, of like size: where they are small, calls cost more than numbers.

    Those without a pixel are left out.
    """
    group: list[int] = []
    for one in sorted((one for one, area in enumerate(areas) if area), key=lambda one: areas[one]):
        if (group and areas[one] > max(2 * areas[group[0]], SMALL_WINDOW)) or len(group) * areas[one] > GROUP_PIXELS:
            yield group
            group = []
        group.append(one)
    if group:
        yield group


def _place_group(
    logits: Tensor, axes: list[Axis], windows: Sequence[tuple[Window, Window]], placement: Placement
) -> list[Region]:
    """The masks of K instances, (K, h, w) logits, each inside its windows along y and x.

    All are computed at the size of the largest; what lies outside an instance's own windows is thrown away.
    """
    rows, columns = (
        _Spans.of(axis, [both[which] for both in windows], cells)
        for which, (axis, cells) in enumerate(zip(axes, logits.shape[1:], strict=True))
    )
    everyone = torch.arange(len(logits))[:, None, None]
    cells = logits[everyone, rows.cells[:, :, None], columns.cells[:, None, :]]
    enlarged = _mix(_mix(cells, rows.enlarge).mT, columns.enlarge)  # (K, columns, rows)
    values = _mix(_mix(enlarged.sigmoid_(), columns.place).mT, rows.place)
    close = ((values - placement.threshold).abs() < ROUNDING).nonzero()
    masks = (values > placement.threshold).numpy()
    close_of = _by_instance(close, len(logits))
    regions = []
    for map_, mask, near, ((_, outer_y), (_, outer_x)) in zip(logits, masks, close_of, windows, strict=True):
        mask = mask[: outer_y.stop - outer_y.start, : outer_x.stop - outer_x.start]
        inside = near[(near < near.new_tensor(mask.shape)).all(dim=1)]
        if len(inside):
            mask = _settle(mask, inside, map_, (outer_y, outer_x), placement)
        regions.append(Region(mask, outer_x.start, outer_y.start))
    return regions


def _settle(
    mask: NDArray[np.bool_], close: Tensor, logits: Tensor, outer: tuple[slice, slice], placement: Placement
) -> NDArray[np.bool_]:
    """The mask with its pixels `close` (n, 2) decided as the full-size steps decide them."""
    if len(close) > CLOSE_PIXELS or math.prod(placement.original) < SMALL_IMAGE:
        whole: NDArray[np.bool_] = place_full(logits[None], placement)[0].numpy()
        return whole[outer]
    exact = full_size_values(logits, placement, close + close.new_tensor([part.start for part in outer]))
    mask[close[:, 0], close[:, 1]] = (exact > placement.threshold).numpy()
    return mask


def _by_instance(rows: Tensor, count: int) -> Sequence[Tensor]:
    """Rows (n, 3) that begin with an instance's number, ascending → what follows it, by instance."""
    return torch.split(rows[:, 1:], torch.bincount(rows[:, 0], minlength=count).tolist())


class _Spans(NamedTuple):
    """What K instances need along one axis, each from its own start on, all as long as the longest.

    cells: (K, c) int64, the logits. enlarge, place: taps (K, O), (K, O, T) into these, and into what they make.
    """

    cells: Tensor
    enlarge: Taps
    place: Taps

    @classmethod
    def of(cls, axis: Axis, windows: Sequence[Window], count: int) -> Self:
        inner, outer = (
            torch.tensor([(part.start, part.stop) for part in parts]) for parts in zip(*windows, strict=True)
        )
        grown, made = _span(inner, len(axis.enlarge.start)), _span(outer, len(axis.place.start))
        first = axis.enlarge.start[inner[:, :1]]
        length = int((axis.enlarge.start[inner[:, 1:] - 1] - first).max()) + axis.enlarge.weights.shape[1]
        return cls(
            (first + torch.arange(length)).clamp(max=count - 1),
            _taps(axis.enlarge, grown, first, length),
            _taps(axis.place, made, inner[:, :1], grown.shape[1]),
        )


def _span(ranges: Tensor, count: int) -> Tensor:
    """Ranges (K, 2) of `count` places → the places (K, longest); beyond its end an instance's go on."""
    return (ranges[:, :1] + torch.arange(int((ranges[:, 1] - ranges[:, 0]).max()))).clamp(max=count - 1)


def _taps(taps: Taps, outputs: Tensor, first: Tensor, length: int) -> Taps:
    """The given outputs (K, O), each instance's from inputs (K, length) that begin with input `first` (K, 1)."""
    weights = taps.weights[outputs]
    return Taps((taps.start[outputs] - first).clamp(max=length - weights.shape[2]), weights)


def _mix(values: Tensor, taps: Taps) -> Tensor:
    """Outputs (K, O, m) from rows of values (K, n, m)."""
    mixed = _rows(values, taps.start).mul_(taps.weights[:, :, :1])
    for tap in range(1, taps.weights.shape[2]):
        mixed.addcmul_(_rows(values, taps.start + tap), taps.weights[:, :, tap : tap + 1])
    return mixed


def _rows(values: Tensor, chosen: Tensor) -> Tensor:
    """Of each instance's rows (K, n, m), those chosen (K, O): (K, O, m)."""
    if len(values) == 1:
        return values.index_select(1, chosen[0])
    return values[torch.arange(len(values))[:, None], chosen]

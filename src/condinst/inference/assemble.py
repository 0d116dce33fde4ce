"""Dynamic mask head on the survivors → masks and boxes in the original image's pixels → Result (spec §4, 3 and 4).

h×w mask probabilities at stride s, H×W the padded input, both of one image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from condinst.config import DetectConfig, ModelConfig
from condinst.inference.detect import take
from condinst.inference.probabilities import mask_probabilities
from condinst.inference.result import Boxes, Masks, Result
from condinst.ops.boxes import scale_boxes
from condinst.ops.masks import aligned_bilinear
from condinst.ops.rle import Region, Rle, encode
from condinst.structures import Detections, Images, NetworkOutput

Size = tuple[int, int]
# Region and full-size arithmetic differ by a few float32 roundings of numbers ≤ 1; twice that decides what is "close".
ROUNDING = 2e-6


class Taps(NamedTuple):
    """How each of O output pixels mixes T neighbouring inputs along one axis: Σ weights[o, t] · input[start[o] + t].

    start: (O,) int64, ascending. weights: (O, T) float32, ≥ 0, rows summing to 1.
    """

    start: Tensor
    weights: Tensor


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
        rles: list[Rle] = []
        for probabilities in mask_probabilities(output.mask_features[index], detections, model):
            rles += place(probabilities, model.mask_head.mask_out_stride, size, original, config.mask_threshold)
        shown = Boxes(boxes.float().cpu(), detections.scores.float().cpu(), detections.labels.cpu())
        results.append(Result(shown, Masks(tuple(rles), original), names, original))
    return results


def place_full(probabilities: Tensor, stride: int, size: Size, original: Size, threshold: float) -> Tensor:
    """The definition: masks (K, h, w) → (K, *original) bool, by way of the padded input.

    `size` is the content's (height, width) inside the padded input, `original` that of the file.
    """
    padded = aligned_bilinear(probabilities[:, None], stride)[:, :, : size[0], : size[1]]
    return F.interpolate(padded, original, mode="bilinear", align_corners=False)[:, 0] > threshold


def place(probabilities: Tensor, stride: int, size: Size, original: Size, threshold: float) -> list[Rle]:
    """`place_full` as RLE, bit for bit, at the cost of each instance's own region instead of the whole image.

    Every step is linear, separable and convex, so one short mix along each axis does them all, and an output above the
    threshold needs an input above it within reach. Where a sum comes so close to the threshold that the order of
    additions could decide, that instance takes the full-size way.
    """
    rows = make_taps(probabilities.shape[1], stride, size[0], original[0])
    columns = make_taps(probabilities.shape[2], stride, size[1], original[1])
    above = probabilities > threshold - ROUNDING
    spans = torch.stack((*_span(above.any(dim=2)), *_span(above.any(dim=1))), dim=1).tolist()
    rles = []
    for map_, (top, bottom, left, right) in zip(probabilities, spans, strict=True):
        region = _place_region(map_, rows, columns, (top, bottom, left, right), threshold)
        if region is None:
            full = place_full(map_[None].cpu(), stride, size, original, threshold)[0]
            region = Region(full.numpy(), 0, 0)
        rles.append(encode(region, *original))
    return rles


def make_taps(cells: int, stride: int, content: int, original: int) -> Taps:
    """The mix along one axis from `cells` probabilities to `original` pixels, read off the full-size steps."""
    unit = torch.eye(cells)[None, :, :, None]
    padded = aligned_bilinear(unit, stride)[:, :, :content, :1]
    dense = F.interpolate(padded, (original, 1), mode="bilinear", align_corners=False)[0, :, :, 0].T  # (O, cells)
    used = dense != 0
    first = used.int().argmax(dim=1)
    count = int((cells - used.flip(1).int().argmax(dim=1) - first).max())
    start = first.clamp(max=cells - count)
    return Taps(start, dense.gather(1, start[:, None] + torch.arange(count)))


def _span(used: Tensor) -> tuple[Tensor, Tensor]:
    """First and one past the last True of each row (K, n): two (K,); 0, 0 where there is none."""
    n = used.shape[1]
    some = used.any(dim=1)
    first = used.int().argmax(dim=1)
    return first * some, (n - used.flip(1).int().argmax(dim=1)) * some


def _place_region(
    probabilities: Tensor, rows: Taps, columns: Taps, span: tuple[int, int, int, int], threshold: float
) -> Region | None:
    """The mask where `span` (top, bottom, left, right of the map) reaches; None if too close to call."""
    top, bottom, left, right = span
    y0, y1 = _reach(rows, top, bottom)
    x0, x1 = _reach(columns, left, right)
    if y0 >= y1 or x0 >= x1:
        return Region(torch.zeros(0, 0, dtype=torch.bool).numpy(), 0, 0)
    rows = Taps(rows.start[y0:y1], rows.weights[y0:y1])
    columns = Taps(columns.start[x0:x1], columns.weights[x0:x1])
    by, bx = _inputs(rows), _inputs(columns)
    values = _mix(_mix(probabilities[by, bx].cpu(), rows).T, columns).T
    if ((values - threshold).abs() < ROUNDING).any():
        return None
    return Region((values > threshold).numpy(), x0, y0)


def _reach(taps: Taps, first: int, last: int) -> tuple[int, int]:
    """Outputs [o0, o1) that mix any input of [first, last)."""
    if first >= last:
        return 0, 0
    ends = taps.start + taps.weights.shape[1]
    return int(torch.searchsorted(ends, first, right=True)), int(torch.searchsorted(taps.start, last))


def _inputs(taps: Taps) -> slice:
    return slice(int(taps.start[0]), int(taps.start[-1]) + taps.weights.shape[1])


def _mix(values: Tensor, taps: Taps) -> Tensor:
    """Mix the rows of values (n, m), of which the first is input start[0], into (O, m)."""
    rows = taps.start - taps.start[0]
    mixed = values[rows] * taps.weights[:, :1]
    for tap in range(1, taps.weights.shape[1]):
        mixed += values[rows + tap] * taps.weights[:, tap : tap + 1]
    return mixed

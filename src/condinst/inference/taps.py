"""All resizing steps between mask logits and the original image, along one axis at a time: short mixes of neighbours.

K instances, n cells of logits along the axis, O pixels of the original, T neighbours in a mix.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from condinst.ops.masks import aligned_bilinear
from condinst.structures import MASK_FEATURE_STRIDE

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

    @classmethod
    def of(cls, cells: int, content: int, original: int, stride: int) -> Self:
        """cells: of logits. content: pixels of the padded input that the picture takes."""
        factor = MASK_FEATURE_STRIDE // stride
        return cls(_enlarging(cells, factor), make_taps(cells * factor, stride, content, original))

    def reached(self, used: Tensor) -> Tensor:
        """Pixels of the original to compute for each row of `used` (K, n), which tells where its logits are high
        enough: first and end, (K, 2) int64. Where none is, the end is not after the first."""
        n = used.shape[1]
        first, last = _ends(used)
        factor = len(self.enlarge.start) // n
        # an enlarged pixel that is high enough lies less than a cell from such a logit
        low, high = (factor * (first - 1)).clamp(min=0), (factor * (last + 1)).clamp(max=factor * n)
        start, reach = self.place.start, self.place.weights.shape[1]
        ends = torch.searchsorted(start + reach, low, right=True), torch.searchsorted(start, high)
        return torch.stack(ends, dim=1) * used.any(dim=1, keepdim=True)

    def needed(self, outputs: Tensor) -> Tensor:
        """The probabilities that pixels of the original, ranges (K, 2) of at least one, are mixed from: (K, 2)."""
        start, weights = self.place
        return torch.stack((start[outputs[:, 0]], start[outputs[:, 1] - 1] + weights.shape[1]), dim=1)


class Spans(NamedTuple):
    """What K instances need along one axis, each from its own start on, all as long as the longest.

    cells: (K, c) int64, the logits. enlarge, place: taps (K, O), (K, O, T) into these, and into what they make.
    """

    cells: Tensor
    enlarge: Taps
    place: Taps

    @classmethod
    def of(cls, axis: Axis, outputs: Tensor, count: int) -> Self:
        """outputs: ranges (K, 2) of the original's pixels, of at least one each. count: of logits along the axis."""
        inner = axis.needed(outputs)
        grown, made = _span(inner, len(axis.enlarge.start)), _span(outputs, len(axis.place.start))
        first = axis.enlarge.start[inner[:, :1]]
        length = int((axis.enlarge.start[inner[:, 1:] - 1] - first).max()) + axis.enlarge.weights.shape[1]
        return cls(
            (first + torch.arange(length)).clamp(max=count - 1),
            _taps(axis.enlarge, grown, first, length),
            _taps(axis.place, made, inner[:, :1], grown.shape[1]),
        )


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


def mix(values: Tensor, taps: Taps) -> Tensor:
    """Outputs (K, O, m) from rows of values (K, n, m)."""
    mixed = _rows(values, taps.start).mul_(taps.weights[:, :, :1])
    for tap in range(1, taps.weights.shape[2]):
        mixed.addcmul_(_rows(values, taps.start + tap), taps.weights[:, :, tap : tap + 1])
    return mixed


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


def _span(ranges: Tensor, count: int) -> Tensor:
    """Ranges (K, 2) of `count` places → the places (K, longest); beyond its end an instance's go on."""
    return (ranges[:, :1] + torch.arange(int((ranges[:, 1] - ranges[:, 0]).max()))).clamp(max=count - 1)


def _taps(taps: Taps, outputs: Tensor, first: Tensor, length: int) -> Taps:
    """The given outputs (K, O), each instance's from inputs (K, length) that begin with input `first` (K, 1)."""
    weights = taps.weights[outputs]
    return Taps((taps.start[outputs] - first).clamp(max=length - weights.shape[2]), weights)


def _rows(values: Tensor, chosen: Tensor) -> Tensor:
    """Of each instance's rows (K, n, m), those chosen (K, O): (K, O, m)."""
    if len(values) == 1:
        return values.index_select(1, chosen[0])
    return values[torch.arange(len(values))[:, None], chosen]

"""The resizing steps from mask logits to the original image as weighted sums of neighbours, one axis at a time.

Each output pixel is a sum of a few neighbouring inputs (taps) with fixed weights.

Shapes: K instances, n logits along the axis, O pixels of the original image, T taps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from condinst.ops.masks import aligned_bilinear, enlarge
from condinst.structures import MASK_FEATURE_STRIDE

COMB = 8  # more than the number of inputs of one output pixel


class Taps(NamedTuple):
    """The weighted sums along one axis: output o is Σ weights[o, t] · input[start[o] + t] over t.

    start: (O,) int64, ascending. weights: (O, T) float32, ≥ 0; each row sums to 1.
    """

    start: Tensor
    weights: Tensor


class Axis(NamedTuple):
    """The steps along one axis.

    enlarge: from logits to stride s, before the sigmoid. place: from probabilities at stride s to the original image.
    Without `place`, `enlarge` leads to the original image.
    """

    enlarge: Taps
    place: Taps | None

    @classmethod
    def aligned(cls, cells: int, content: int, original: int, stride: int) -> Self:
        """The steps of aligned enlarging.

        cells: number of logits. content: length of the image in the padded input. original: length in the file.
        """
        factor = MASK_FEATURE_STRIDE // stride
        return cls(_enlarging(cells, factor), make_taps(cells * factor, stride, content, original))

    @classmethod
    def bilinear(cls, cells: int, source: int, target: int, shown: int, factor: int = MASK_FEATURE_STRIDE) -> Self:
        """The steps of bilinear enlarging, see `condinst.inference.full_size`.

        cells: number of logits. source, target: length before and after the last resize. shown: the first pixels of
        the target, which belong to the original image. factor: from the logits to `source`.
        """

        def steps(maps: Tensor) -> Tensor:
            large = enlarge(maps.expand(-1, -1, -1, 2), factor, "bilinear")[:, :, :source, :1]
            return F.interpolate(large, (target, 1), mode="bilinear", align_corners=False)[:, :, :shown]

        centre = ((torch.arange(shown) + 0.5) * source / target) / factor - 0.5
        return cls(_measure(cells, steps, centre), None)

    def reached(self, used: Tensor) -> Tensor:
        """The range of original pixels to compute for each instance: first and end, (K, 2) int64.

        used: (K, n) bool, where the logits are high enough. Without any, the end is not larger than the first.
        """
        n = used.shape[1]
        first, last = _ends(used)
        if self.place is None:
            start, reach = self.enlarge.start, self.enlarge.weights.shape[1]
            ends = torch.searchsorted(start + reach, first, right=True), torch.searchsorted(start, last)
            return torch.stack(ends, dim=1) * used.any(dim=1, keepdim=True)
        factor = len(self.enlarge.start) // n
        # an enlarged value that is high enough lies less than one cell from such a logit
        low, high = (factor * (first - 1)).clamp(min=0), (factor * (last + 1)).clamp(max=factor * n)
        start, reach = self.place.start, self.place.weights.shape[1]
        ends = torch.searchsorted(start + reach, low, right=True), torch.searchsorted(start, high)
        return torch.stack(ends, dim=1) * used.any(dim=1, keepdim=True)

    def needed(self, outputs: Tensor) -> Tensor:
        """The range (K, 2) of outputs of `enlarge` that the original pixels in the ranges `outputs` (K, 2) need."""
        if self.place is None:
            return outputs
        start, weights = self.place
        return torch.stack((start[outputs[:, 0]], start[outputs[:, 1] - 1] + weights.shape[1]), dim=1)


class Spans(NamedTuple):
    """The inputs and taps of K instances along one axis. All have the length of the longest one.

    cells: (K, c) int64, indices of the logits. enlarge: taps into the chosen logits, with start (K, O) and weights
    (K, O, T). place: taps into the outputs of `enlarge`, if there is such a step.
    """

    cells: Tensor
    enlarge: Taps
    place: Taps | None

    @classmethod
    def of(cls, axis: Axis, outputs: Tensor, count: int) -> Self:
        """outputs: (K, 2), non-empty ranges of original pixels. count: number of logits along the axis."""
        inner = axis.needed(outputs)
        grown = _span(inner, len(axis.enlarge.start))
        first = axis.enlarge.start[inner[:, :1]]
        length = int((axis.enlarge.start[inner[:, 1:] - 1] - first).max()) + axis.enlarge.weights.shape[1]
        cells = (first + torch.arange(length)).clamp(max=count - 1)
        enlarging = _taps(axis.enlarge, grown, first, length)
        if axis.place is None:
            return cls(cells, enlarging, None)
        made = _span(outputs, len(axis.place.start))
        return cls(cells, enlarging, _taps(axis.place, made, inner[:, :1], grown.shape[1]))


def make_taps(cells: int, stride: int, content: int, original: int) -> Taps:
    """The taps from `cells` probabilities to `original` pixels along one axis, of aligned enlarging."""

    def steps(maps: Tensor) -> Tensor:
        padded = aligned_bilinear(maps, stride)[:, :, :content, :1]
        return F.interpolate(padded, (original, 1), mode="bilinear", align_corners=False)

    return _measure(cells, steps, ((torch.arange(original) + 0.5) * content / original - 0.5 - stride // 2) / stride)


def _measure(cells: int, steps: Callable[[Tensor], Tensor], centre: Tensor) -> Taps:
    """The taps along one axis, measured on the full-size steps.

    cells: number of inputs. steps: the full-size steps on maps (N, 1, cells, 1). centre: (O,), the place of each output
    among the inputs. Only a few neighbouring cells affect an output. So COMB inputs, each with a one in every COMB-th
    cell, give all weights.
    """
    teeth = min(COMB, cells)
    comb = (torch.arange(cells) % teeth == torch.arange(teeth)[:, None]).float()
    seen = steps(comb[:, None, :, None])[:, 0, :, 0].T  # (O, teeth)
    first = (centre.floor().long() - (teeth // 2 - 1)).clamp(0, cells - teeth)
    weights = seen.gather(1, (first[:, None] + torch.arange(teeth)) % teeth)
    skipped, end = _ends(weights != 0)
    count = int((end - skipped).max())
    skipped = skipped.clamp(max=teeth - count)
    return Taps(first + skipped, weights.gather(1, skipped[:, None] + torch.arange(count)))


def mix(values: Tensor, taps: Taps) -> Tensor:
    """Apply taps to values (K, n, m) along the second axis: (K, O, m)."""
    mixed = _rows(values, taps.start).mul_(taps.weights[:, :, :1])
    for tap in range(1, taps.weights.shape[2]):
        mixed.addcmul_(_rows(values, taps.start + tap), taps.weights[:, :, tap : tap + 1])
    return mixed


def _enlarging(cells: int, factor: int) -> Taps:
    """The taps of aligned bilinear enlarging along one axis: two inputs for each output."""
    position = (torch.arange(cells * factor) - factor // 2).clamp(min=0) / factor
    start = position.floor().clamp(max=max(cells - 2, 0)).long()
    share = (position - start).clamp(max=1)
    both = torch.stack((1 - share, share), dim=1)
    return Taps(start, both[:, : min(cells, 2)])


def _ends(used: Tensor) -> tuple[Tensor, Tensor]:
    """The first True of each row (K, n), and one past the last: two tensors (K,). Without any True: 0 and n."""
    return used.int().argmax(dim=1), used.shape[1] - used.flip(1).int().argmax(dim=1)


def _span(ranges: Tensor, count: int) -> Tensor:
    """The indices (K, longest) of the ranges (K, 2), all in the length of the longest and below `count`."""
    return (ranges[:, :1] + torch.arange(int((ranges[:, 1] - ranges[:, 0]).max()))).clamp(max=count - 1)


def _taps(taps: Taps, outputs: Tensor, first: Tensor, length: int) -> Taps:
    """The taps of the given outputs (K, O), relative to the first input (K, 1) of each instance, of `length` inputs."""
    weights = taps.weights[outputs]
    return Taps((taps.start[outputs] - first).clamp(max=length - weights.shape[2]), weights)


def _rows(values: Tensor, chosen: Tensor) -> Tensor:
    """The rows `chosen` (K, O) of the values (K, n, m) of each instance: (K, O, m)."""
    if len(values) == 1:
        return values.index_select(1, chosen[0])
    return values[torch.arange(len(values))[:, None], chosen]

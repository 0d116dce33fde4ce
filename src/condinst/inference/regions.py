"""Masks from the region of each instance: the masks of `place_full`, bit for bit, in a fraction of the time.

Shapes: K instances of one image, h×w the logits at the stride of the mask features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from condinst.inference.full_size import Placement, full_size_values, place_full
from condinst.inference.taps import Axis, Spans, mix
from condinst.ops.bitmaps.rle import Region, Rle, encode

# The two ways differ by a few float32 roundings. A pixel is "close" to the threshold within about twice that: of
# probabilities ≤ 1, or of logits as a part of the largest one.
ROUNDING, LOGIT_ROUNDING = 1e-6, 2e-6
# Up to this number, close pixels are computed again one by one. Above it, or in a small image, the whole instance is.
CLOSE_PIXELS = 64
SMALL_IMAGE = 2**16  # pixels; PyTorch adds in another order in small images, where the full size is cheap
# Instances share a computation if their common window is small or at most twice what they need, and fits the cache.
SMALL_WINDOW, GROUP_PIXELS = 2**13, 2**18
BAND_PIXELS = 2**20  # pixels of a larger window that are computed at a time; bounds the memory
NOTHING = Region(np.zeros((0, 0), dtype=np.bool_), 0, 0)


def place(logits: Tensor, placement: Placement) -> list[Rle]:
    """The masks of `place_full` as RLE, bit for bit, at the cost of each instance's own region.

    logits: (K, h, w) float32 on the CPU.

    All steps before and after the sigmoid are linear, separable and convex. So a pixel above the threshold lies near a
    logit above the threshold, and one short weighted sum along each axis replaces all steps after the sigmoid. Near the
    threshold the order of additions can decide. The full-size steps compute these pixels again, and only these.
    """
    axes = _axes(logits, placement)
    limits = _limits(placement)
    above = logits > _lowest(logits, placement, limits)
    windows = torch.stack((axes[0].reached(above.any(dim=2)), axes[1].reached(above.any(dim=1))), dim=1)
    rles: dict[int, Rle] = {}
    for group in _groups(axes, windows):
        regions = _place_group(logits[group], axes, windows[group], limits, placement)
        rles |= {one: encode(region, *placement.original) for one, region in zip(group, regions, strict=True)}
    return [rles.get(one) or encode(NOTHING, *placement.original) for one in range(len(logits))]


class _Limits(NamedTuple):
    """What the values are compared with.

    threshold: of the values, which are probabilities or, with "bilinear" enlarging, logits. A value differs by at most
    margin + relative·m from the one of `place_full`, where m is the largest logit of those that it is made of.
    """

    threshold: float
    margin: float
    relative: float

    def margins(self, cells: Tensor) -> Tensor:
        """The margins (K, 1, 1) of K instances with the logits `cells` (K, h, w)."""
        return self.margin + self.relative * cells.abs().amax(dim=(1, 2), keepdim=True)


def _limits(placement: Placement) -> _Limits:
    if placement.enlarging != "bilinear":
        return _Limits(placement.threshold, ROUNDING, 0)
    rounding = ROUNDING / (placement.threshold * (1 - placement.threshold))  # of the sigmoid, as a logit
    return _Limits(_logit(placement.threshold), rounding, LOGIT_ROUNDING)


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability)) if probability > 0 else -math.inf


def _lowest(logits: Tensor, placement: Placement, limits: _Limits) -> Tensor:
    """The least logits that may lead to a pixel above the threshold, to be compared with logits (K, h, w)."""
    if placement.enlarging == "aligned" or not logits.numel():
        return logits.new_tensor(_logit(placement.threshold - ROUNDING))
    if placement.enlarging != "bilinear":
        return logits.new_tensor(placement.threshold - ROUNDING)
    return limits.threshold - limits.margins(logits)


def _axes(logits: Tensor, placement: Placement) -> list[Axis]:
    """The steps along y and along x."""
    cells, resize = (logits.shape[1], logits.shape[2]), placement.resize((logits.shape[1], logits.shape[2]))
    sides = zip(cells, resize.source, resize.target, placement.original, strict=True)
    if placement.enlarging != "aligned":
        factor = placement.growth
        return [
            Axis.bilinear(n, source, target, min(target, original), factor) for n, source, target, original in sides
        ]
    return [Axis.aligned(n, source, target, placement.stride) for n, source, target, _ in sides]


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


def _place_group(
    logits: Tensor, axes: list[Axis], windows: Tensor, limits: _Limits, placement: Placement
) -> Iterator[Region]:
    """The masks of K instances from logits (K, h, w). windows: (K, 2, 2), first and end pixel along y and x."""
    if len(windows) == 1:
        drawn = [_draw_in_bands(logits, axes, windows, limits)]
    else:
        drawn = _draw(logits, axes, windows, limits)
    for map_, (mask, close), corner in zip(logits, drawn, windows[..., 0], strict=True):
        if len(close):
            mask = _settle(mask, close, map_, corner, placement)
        y, x = corner.tolist()
        yield Region(mask, x, y)


class _Drawn(NamedTuple):
    """An instance inside its window. close: (n, 2) int64, the (y, x) of pixels that are close to the threshold."""

    mask: NDArray[np.bool_]
    close: Tensor


def _draw_in_bands(logits: Tensor, axes: list[Axis], window: Tensor, limits: _Limits) -> _Drawn:
    """One instance with logits (1, h, w) and window (1, 2, 2), some rows at a time, because it may be very large."""
    (top, bottom), (left, right) = window[0].tolist()
    mask = np.empty((bottom - top, right - left), dtype=np.bool_)
    close = []
    bands = math.ceil(math.prod(_extents(axes, window)[0].tolist()) / BAND_PIXELS)
    step = math.ceil(len(mask) / bands)
    for first in range(0, len(mask), step):
        band = window.clone()
        band[0, 0] = band.new_tensor([top + first, min(top + first + step, bottom)])
        (drawn,) = _draw(logits, axes, band, limits)
        mask[first : first + step] = drawn.mask
        close.append(drawn.close + drawn.close.new_tensor([first, 0]))
    return _Drawn(mask, torch.cat(close))


def _draw(logits: Tensor, axes: list[Axis], windows: Tensor, limits: _Limits) -> list[_Drawn]:
    """The masks of K instances with logits (K, h, w) and windows (K, 2, 2).

    All are computed in the size of the largest window and then cropped to their own windows.
    """
    rows, columns = (Spans.of(axes[i], windows[:, i], logits.shape[1 + i]) for i in range(2))
    everyone = torch.arange(len(logits))[:, None, None]
    cells = logits[everyone, rows.cells[:, :, None], columns.cells[:, None, :]]
    if rows.place is None or columns.place is None:
        values = mix(mix(cells.mT, columns.enlarge).mT, rows.enlarge)  # (K, rows, columns)
    else:
        enlarged = mix(mix(cells, rows.enlarge).mT, columns.enlarge)  # (K, columns, rows)
        values = mix(mix(enlarged.sigmoid_(), columns.place).mT, rows.place)
    masks = (values > limits.threshold).numpy()
    sizes = windows[..., 1] - windows[..., 0]
    close = (values.sub_(limits.threshold).abs_() < limits.margins(cells)).nonzero()
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

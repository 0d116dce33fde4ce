"""Measures of many masks at once, taken from their run lengths: no bitmap is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
FIRST_SIGN, DATA, MORE, NEGATIVE, BITS = 48, 31, 32, 16, 5  # of COCO's text: five bits a character, the lowest first


class Strips(NamedTuple):
    """The pixels of K masks, column by column: rows `top` to `bottom`, the last left out. Each (S,) int64.

    mask: the place of the mask, 0 to K − 1, ascending.
    """

    mask: Numbers
    column: Numbers
    top: Numbers
    bottom: Numbers


class Sums(NamedTuple):
    """Of each of K masks, (K,) int64. area: pixels. across, down: the sums of its pixels' columns and rows."""

    area: Numbers
    across: Numbers
    down: Numbers


def strips(counts: Sequence[bytes], height: int) -> Strips:
    """The pixels of masks of that height, given by COCO's compressed counts."""
    lengths, mask = _run_lengths(counts)
    place = _place_in_group(mask)
    ends = _sums_from(lengths, place == 0)
    filled = (place % 2 == 1) & (lengths > 0)
    first, last, mask = (ends - lengths)[filled], ends[filled] - 1, mask[filled]
    pieces = last // height - first // height + 1  # a run to the bottom of a column goes on at the top of the next
    run = np.repeat(np.arange(len(first)), pieces)
    column = first[run] // height + _place_in_group(run)
    top = np.maximum(first[run] - column * height, 0)
    bottom = np.minimum(last[run] + 1 - column * height, height)
    return Strips(mask[run], column, top, bottom)


def sums(of: Strips, count: int) -> Sums:
    """Of `count` masks."""
    length = of.bottom - of.top
    weights = (length, of.column * length, (of.top + of.bottom - 1) * length // 2)
    # sums of whole numbers below 2⁵³ are exact in float64
    area, across, down = (np.bincount(of.mask, each, count).astype(np.int64) for each in weights)
    return Sums(area, across, down)


def sampled_any(of: Strips, count: int, stride: int) -> NDArray[np.bool_]:
    """(count,): whether each mask has a pixel among [stride/2::stride] of the rows and columns."""
    half = stride // 2
    on_column = (of.column >= half) & ((of.column - half) % stride == 0)
    on_row = (of.bottom - 1 - half) // stride > (of.top - 1 - half) // stride
    found = np.zeros(count, dtype=np.bool_)
    found[of.mask[on_column & on_row]] = True
    return found


def _run_lengths(counts: Sequence[bytes]) -> tuple[Numbers, Numbers]:
    """The runs of all masks, empty and filled in turn, and the mask of each: two (R,) int64."""
    signs = np.frombuffer(b"".join(counts), dtype=np.uint8).astype(np.int64) - FIRST_SIGN
    ends = np.flatnonzero(signs & MORE == 0)  # the last character of each number
    starts = np.concatenate(([0], ends[:-1] + 1))[: len(ends)]
    digits = ends - starts + 1
    place = np.arange(len(signs)) - np.repeat(starts, digits)
    numbers = np.add.reduceat((signs & DATA) << (BITS * place), starts) if len(ends) else starts
    numbers = numbers - np.where(signs[ends] & NEGATIVE, np.int64(1) << (BITS * digits), 0)
    mask = np.repeat(np.arange(len(counts)), [len(each) for each in counts])[ends]
    # from the fourth on, a number is the difference from the run two places before
    place = _place_in_group(mask)
    runs = np.empty_like(numbers)
    for odd in (0, 1):
        chosen = place % 2 == odd
        runs[chosen] = _sums_from(numbers[chosen], place[chosen] < 3)
    return runs, mask


def _place_in_group(group: Numbers) -> Numbers:
    """0, 1, 2 … within each stretch of equal numbers."""
    new = np.concatenate(([True], group[1:] != group[:-1]))[: len(group)]
    begins = np.flatnonzero(new)
    places: Numbers = np.arange(len(group)) - begins[np.cumsum(new) - 1]
    return places


def _sums_from(values: Numbers, new: NDArray[np.bool_]) -> Numbers:
    """Running sums that restart where `new` is true. The first element of `new` must be true."""
    running = np.cumsum(values)
    begins = np.flatnonzero(new)
    before = running[begins] - values[begins]
    since: Numbers = running - before[np.cumsum(new) - 1]
    return since

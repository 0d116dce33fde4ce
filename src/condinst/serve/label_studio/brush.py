"""Label Studio's run-length code of a brush mask.

The code is a stream of bits, most significant first. A head of 53 bits: the number of values (32), the bits of a value
less 1 (5), and four lengths of a counter less 1 (4 each). Then blocks: 1 for a run or 0 for single values (1), which of
the four lengths the counter has (2), the counter, which is the number of values less 1, and the value of the run or the
single values. The values are the red, green, blue and alpha bytes of each pixel in row order, all 0 outside the mask
and all 255 inside.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from condinst.ops.bitmaps.rle import Rle, decode_region

CHANNELS = 4
COUNTER_BITS = (6, 9, 12, 16)  # the four lengths of a counter
VALUE_BITS = 8
OUTSIDE, INSIDE = 0, 255


def brush_rle(rle: Rle) -> list[int]:
    """The code of a mask as a list of bytes. Only runs occur in it, no single values."""
    height, width = rle["size"]
    head = [(height * width * CHANNELS, 32), (VALUE_BITS - 1, 5), *((bits - 1, 4) for bits in COUNTER_BITS)]
    fields = [*head, *_blocks(rle, height, width)]
    bits = "".join(f"{number:0{length}b}" for number, length in fields)
    padded = bits + "0" * (-len(bits) % 8)
    return list(int(padded, 2).to_bytes(len(padded) // 8, "big"))


def _blocks(rle: Rle, height: int, width: int) -> Iterator[tuple[int, int]]:
    """The fields (number, bits) of all blocks."""
    place = 0
    for start, end in _runs(rle, width):
        yield from _run(start - place, OUTSIDE)
        yield from _run(end - start, INSIDE)
        place = end
    yield from _run(height * width - place, OUTSIDE)


def _runs(rle: Rle, width: int) -> Iterator[tuple[int, int]]:
    """The first pixel of each run inside the mask, and the first one behind it, in row order."""
    bitmap, x, y = decode_region(rle)
    edges = np.diff(np.pad(bitmap.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    rows, starts = np.nonzero(edges == 1)
    _, ends = np.nonzero(edges == -1)
    row = (rows + y) * width + x
    starts, ends = row + starts, row + ends
    apart = np.ones(len(rows) + 1, dtype=bool)  # a run up to the right border goes on in the next row
    apart[1:-1] = starts[1:] != ends[:-1]
    yield from zip(starts[apart[:-1]].tolist(), ends[apart[1:]].tolist(), strict=True)


def _run(pixels: int, value: int) -> Iterator[tuple[int, int]]:
    """The fields of a run of pixels. A run longer than the longest counter becomes several."""
    left = pixels * CHANNELS
    while left:
        count = min(left, 1 << COUNTER_BITS[-1])
        which = next(index for index, bits in enumerate(COUNTER_BITS) if count <= 1 << bits)
        yield from ((1, 1), (which, 2), (count - 1, COUNTER_BITS[which]), (value, VALUE_BITS))
        left -= count

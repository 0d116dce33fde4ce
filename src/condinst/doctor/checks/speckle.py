"""Finds masks that are noise in part: single pixels that touch no other pixel of their object."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from condinst.data.findings import Finding
from condinst.data.sample import RunLengths, Sample
from condinst.doctor.checks.shapes import Raster, finding_about
from condinst.ops.bitmaps.rle import Rle, decode

FEWEST_PIXELS = 10
LONE_SHARE = 0.2  # of the pixels of a mask


def check_speckle(sample: Sample, drawn: list[Raster]) -> Iterator[Finding]:
    """Return a finding for each pixel mask of which more than `LONE_SHARE` touches no other pixel of the mask.

    drawn: the result of `draw`. Thin objects such as cracks are fine: diagonal neighbours touch each other.
    """
    for instance, as_drawn in zip(sample.instances, drawn, strict=True):
        shape, most = instance.shape, max(LONE_SHARE * as_drawn.area, FEWEST_PIXELS)
        # each lone pixel ends two runs, and a run takes at least one character
        if not isinstance(shape, RunLengths) or instance.crowd or len(shape.rle["counts"]) <= 2 * most:
            continue
        lone = lone_pixels(shape.rle)
        if lone > most:
            message = f"{lone} of the {as_drawn.area:.0f} pixels of its mask touch no other pixel of it, as noise does"
            remedy = "clean the mask, for example with a median filter, and give each object its own number"
            yield finding_about(sample, instance, "speckled-mask", "warning", message, remedy)


def lone_pixels(rle: Rle) -> int:
    """Return the number of pixels of a mask without a neighbour in the mask, of eight neighbours."""
    mask = np.pad(decode(rle), 1).astype(np.uint8)
    rows = mask[:-2] + mask[1:-1] + mask[2:]
    around = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    return int(((around == 1) & (mask[1:-1, 1:-1] == 1)).sum())

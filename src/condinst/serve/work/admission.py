"""Decides whether a request can be answered in time, from the time of earlier requests."""

from __future__ import annotations

import math
from collections.abc import Sequence

WEIGHT = 0.1  # of a new measurement in the mean
PER_PICTURE = 40_000  # pixels that take as long as the work that does not depend on the size; measured on a CPU
SHARE = 0.8  # of the deadline that the expected wait may take


class Pace:
    """A moving mean of the time for a pixel of the network's input.

    A picture counts as its pixels and PER_PICTURE more, so small and large pictures agree about the mean.
    """

    def __init__(self) -> None:
        self.seconds_per_pixel = 0.0

    def add(self, seconds: float, pixels: Sequence[int]) -> None:
        """Include the seconds for a batch. pixels: of each picture. The first batch counts as the mean."""
        new = seconds / sum(each + PER_PICTURE for each in pixels)
        old = self.seconds_per_pixel
        self.seconds_per_pixel = old + WEIGHT * (new - old) if old else new

    def seconds(self, pixels: int) -> float:
        """The expected seconds for a picture of so many pixels."""
        return self.seconds_per_pixel * (pixels + PER_PICTURE)


def excess(wait: float, own: float, deadline: float) -> float:
    """Seconds by which a request would be too late: its wait and its own time, less 0.8 of the deadline.

    A request without a wait is never late: its answer corrects the mean.
    """
    return wait + own - SHARE * deadline if wait else 0.0


def retry_after(late: float) -> int:
    """The whole seconds after which a client may try again; at least 1."""
    return max(math.ceil(late), 1)

"""Decides whether a request can be answered in time, from the time of earlier requests."""

from __future__ import annotations

import math

WEIGHT = 0.1  # of a new measurement in the mean
SHARE = 0.8  # of the deadline that the expected wait may take


class Pace:
    """A moving mean of the seconds for a pixel of the network's input. Small and large pictures share it."""

    def __init__(self) -> None:
        self.seconds_per_pixel = 0.0

    def add(self, seconds: float, pixels: int) -> None:
        """Include a measurement. The first one counts as the mean."""
        new = seconds / max(pixels, 1)
        old = self.seconds_per_pixel
        self.seconds_per_pixel = old + WEIGHT * (new - old) if old else new

    def seconds(self, pixels: int) -> float:
        """The expected seconds for a picture of so many pixels."""
        return self.seconds_per_pixel * pixels


def excess(wait: float, own: float, deadline: float) -> float:
    """Seconds by which a request would be too late: its wait and its own time, less 0.8 of the deadline.

    A request without a wait is never late: its answer corrects the mean.
    """
    return wait + own - SHARE * deadline if wait else 0.0


def retry_after(late: float) -> int:
    """The whole seconds after which a client may try again; at least 1."""
    return max(math.ceil(late), 1)

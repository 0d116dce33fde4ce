"""Detects whether the masks of a data set show separate objects, from the masks of the whole data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from condinst.data.findings import Finding
from condinst.data.formats.masks.label_picture import Piece

PICTURES = 100  # label images examined at least, spread over all
PIECES = 100  # numbers examined in each label image
PART = 0.05  # share of a number's pixels; a smaller separate part is not counted
# share of the numbers in several parts; above this share, numbers are classes (of real objects, a tenth are cut)
SPREAD = 0.4
BETWEEN = 0.2  # share of changes with a number between its neighbours: real objects 0.03, interpolation 0.5
GREY = 0.01  # share of a mask's pixels with another value than its greatest
MOST_OF_EDGE = 0.75  # share of the picture's edge that a background covers
HALF = 0.5
_EVERY_SIDE = np.ones((3, 3), dtype=np.bool_)


@dataclass
class LabelSigns:
    """Counts over the label images examined so far.

    total: number of label images of the data set. Of many, every second, third … one is examined.
    """

    total: int
    passed: int = 0
    looked_at: int = 0
    binary: int = 0  # number of label images with a single number, in several parts
    numbers: int = 0
    spread: int = 0  # numbers in several parts
    changes: int = 0  # neighbouring pixels with different numbers
    between: int = 0
    inverted: int = 0

    @property
    def step(self) -> int:
        return max(self.total // PICTURES, 1)

    def look(self, numbers: NDArray[np.int64], pieces: Sequence[Piece]) -> None:
        """Add a label image (H, W) and its pieces. A label image without objects is not counted."""
        self.passed += 1
        if not pieces or (self.passed - 1) % self.step:
            return
        self.looked_at += 1
        spread = sum(_in_parts(piece.mask) for piece in pieces[:PIECES])
        self.spread += spread
        self.numbers += min(len(pieces), PIECES)
        self.binary += len(pieces) == 1 and spread
        for lines in (numbers, numbers.T):
            before, here, after = lines[:-2], lines[1:-1], lines[2:]
            self.between += int(((before < here) & (here < after) | (before > here) & (here > after)).sum())
            self.changes += int((lines[1:] != lines[:-1]).sum())
        largest = max(pieces, key=lambda piece: int(piece.mask.sum()))
        self.inverted += _is_background(numbers == largest.number)

    def findings(self, labels: Path) -> Iterator[Finding]:
        """Return the findings about the folder."""
        some = f" ({self.looked_at} of {self.total} label images checked)" if self.step > 1 else ""
        if self.changes and self.between > BETWEEN * self.changes:
            message = f"the numbers look interpolated: rims between two objects have numbers in between{some}"
            remedy = "scale them with nearest neighbour and save them as PNG or TIFF; each rim counts as an object"
            yield Finding("interpolated-labels", "warning", labels, None, message, remedy)
        elif self.looked_at and self.binary == self.looked_at:
            message = f"each label image holds a single number; in {self.binary} of them it has several parts{some}"
            remedy = "check that every object has its own number"
            yield Finding("binary-labels", "warning", labels, None, message, remedy)
        elif self.numbers > 1 and self.spread > SPREAD * self.numbers:
            message = f"{self.spread} of {self.numbers} checked numbers have several parts in a label image{some}"
            remedy = (
                "if the numbers are classes, give every object its own number; condinst reads each number as one object"
            )
            yield Finding("class-labels", "warning", labels, None, message, remedy)
        yield from _inverted(self.inverted, self.looked_at, labels, "label images")


@dataclass
class MaskSigns:
    """Counts over the masks of single objects examined so far."""

    looked_at: int = 0
    grey: int = 0
    inverted: int = 0

    def look(self, numbers: NDArray[np.int64]) -> None:
        """Add the pixel values (H, W) of a mask."""
        inside = numbers > 0
        values = numbers[inside]
        if not len(values):
            return
        self.looked_at += 1
        self.grey += int((values != values.max()).sum()) > GREY * len(values)
        self.inverted += _is_background(inside)

    def findings(self, masks: Path) -> Iterator[Finding]:
        """Return the findings about the folder."""
        if self.grey:
            message = f"{self.grey} of {self.looked_at} masks hold several values besides 0"
            remedy = (
                "every pixel except 0 counts as the object; if JPEG or smooth scaling made these values, save only 0 "
                "and 255"
            )
            yield Finding("grey-masks", "warning", masks, None, message, remedy)
        yield from _inverted(self.inverted, self.looked_at, masks, "masks")


def _inverted(count: int, total: int, folder: Path, what: str) -> Iterator[Finding]:
    if total and count > HALF * total:
        message = f"in {count} of {total} {what} one object covers most of the picture and most of its edge"
        remedy = "if they are inverted, invert them back: the background must be 0"
        yield Finding("inverted-masks", "warning", folder, None, message, remedy)


def _in_parts(mask: NDArray[np.bool_]) -> bool:
    """Return whether the mask has at least two parts of relevant size."""
    from scipy import ndimage  # loading it takes a second, and other formats have no label images

    parts, count = ndimage.label(mask, structure=_EVERY_SIDE)
    if count < 2:
        return False
    sizes = np.bincount(parts.reshape(-1))[1:]
    return bool((sizes >= PART * sizes.sum()).sum() > 1)


def _is_background(mask: NDArray[np.bool_]) -> bool:
    """Return whether (H, W) covers more than half of the picture and most of its edge, but not all."""
    edge = np.concatenate((mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]))
    return bool(edge.mean() >= MOST_OF_EDGE and HALF < mask.mean() < 1)

"""What every reader of an annotation format returns. Nothing is drawn or decoded yet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from condinst.ops.rle import Region, Rle, decode, draw_polygons, encode

Array8 = NDArray[np.uint8]
Matrix = NDArray[np.float64]  # (2, 3): source coordinates (pixel edges at integers) → output coordinates
Box = tuple[float, float, float, float]  # xyxy, pixel edges at integers


@dataclass(frozen=True)
class Polygons:
    """A region as the union of its parts, each (P, 2) float64 vertices (x, y), P ≥ 3."""

    parts: tuple[NDArray[np.float64], ...]

    def whole(self, height: int, width: int) -> Rle:
        """The run lengths in a picture of that size, drawn by COCO's rule."""
        return draw_polygons(self.parts, height, width)


@dataclass(frozen=True)
class RunLengths:
    """A region as the run lengths of its tight box, whose top left pixel is (x, y)."""

    rle: Rle
    x: int
    y: int

    @classmethod
    def of(cls, mask: NDArray[np.bool_ | np.uint8], x: int, y: int) -> Self:
        """Of pixels (h, w), non-zero where the region is, already cut to its tight box."""
        return cls(encode(Region(mask.astype(np.bool_), 0, 0), *mask.shape), x, y)

    def decode(self) -> NDArray[np.bool_]:
        """(h, w), the tight box."""
        return decode(self.rle)

    def whole(self, height: int, width: int) -> Rle:
        """The run lengths in a picture of that size."""
        return encode(Region(self.decode(), self.x, self.y), height, width)


@dataclass(frozen=True)
class Instance:
    """One annotated object, in pixels of the picture.

    `shape` is None where only a box was annotated. `area` is what the file says, in pixels; None where it does not.
    A crowd is a region of several objects, which neither teaches nor counts.
    """

    label: int  # 0-based
    box: Box
    shape: Polygons | RunLengths | None
    crowd: bool
    annotation_id: int
    area: float | None = None


class Federated(NamedTuple):
    """Which classes annotators looked for in a picture, as in LVIS. All labels are 0-based.

    Classes that neither occur in the picture nor are in `absent` were not looked for. absent: looked for and not there
    (`neg_category_ids`). partial: only some of their objects are annotated (`not_exhaustive_category_ids`).
    """

    absent: frozenset[int]
    partial: frozenset[int]


@dataclass(frozen=True)
class Sample:
    """One picture and its objects; `width` and `height` are those after EXIF orientation.

    federated: None where every object of every class is annotated, as in most data sets.
    """

    path: Path
    image_id: int
    width: int
    height: int
    instances: tuple[Instance, ...]
    federated: Federated | None = None


@dataclass(frozen=True)
class AnnotatedData:
    """A data set. Label i stands for category_ids[i], named classes[i]. `notes`: what reading left out, in words.

    source: the file or folder it was read from, for messages. files: the annotation files that were read.
    """

    samples: tuple[Sample, ...]
    category_ids: tuple[int, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    source: Path
    files: frozenset[Path] = frozenset()


def skip_empty(data: AnnotatedData) -> AnnotatedData:
    """`data` without the pictures that hold no object or only crowds; a note tells how many they were."""
    kept = tuple(sample for sample in data.samples if not all(instance.crowd for instance in sample.instances))
    left_out = len(data.samples) - len(kept)
    if not left_out:
        return data
    note = f"left out {left_out} of {len(data.samples)} pictures, which have no annotated object"
    return replace(data, samples=kept, notes=(*data.notes, note))

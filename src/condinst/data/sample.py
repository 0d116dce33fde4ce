"""The result of every reader of an annotation format. Masks and pictures are not decoded yet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from condinst.errors import some
from condinst.ops.bitmaps.rle import Region, Rle, decode, draw_polygons, encode

Array8 = NDArray[np.uint8]
Matrix = NDArray[np.float64]  # (2, 3): source coordinates (pixel edges at integers) → output coordinates
Box = tuple[float, float, float, float]  # xyxy, pixel edges at integers


@dataclass(frozen=True)
class Polygons:
    """A region as the union of its parts, each (P, 2) float64 vertices (x, y), P ≥ 3."""

    parts: tuple[NDArray[np.float64], ...]

    def whole(self, height: int, width: int) -> Rle:
        """Return the run lengths in a picture of that size, drawn by COCO's rule."""
        return draw_polygons(self.parts, height, width)


@dataclass(frozen=True)
class RunLengths:
    """A region as the run lengths of its tight box, whose top left pixel is (x, y)."""

    rle: Rle
    x: int
    y: int

    @classmethod
    def of(cls, mask: NDArray[np.bool_ | np.uint8], x: int, y: int) -> Self:
        """Encode pixels (h, w), non-zero inside the region and already cut to its tight box."""
        return cls(encode(Region(mask.astype(np.bool_), 0, 0), *mask.shape), x, y)

    def decode(self) -> NDArray[np.bool_]:
        """Return (h, w) of the tight box."""
        return decode(self.rle)

    def whole(self, height: int, width: int) -> Rle:
        """Return the run lengths in a picture of that size."""
        return encode(Region(self.decode(), self.x, self.y), height, width)


@dataclass(frozen=True)
class Instance:
    """One annotated object, in pixels of the picture.

    `shape` is None if the object has only a box. `area` is the area stated in the file, in pixels; None if the file
    states none. A crowd is a region of several objects. Training and evaluation ignore crowds.
    """

    label: int  # 0-based
    box: Box
    shape: Polygons | RunLengths | None
    crowd: bool
    annotation_id: int
    area: float | None = None


class Federated(NamedTuple):
    """The classes that annotators looked for in a picture, as in LVIS. All labels are 0-based.

    Classes that do not occur in the picture and are not in `absent` were not looked for. absent: classes looked for and
    not found (`neg_category_ids`). partial: classes with only some objects annotated (`not_exhaustive_category_ids`).
    """

    absent: frozenset[int]
    partial: frozenset[int]


@dataclass(frozen=True)
class Sample:
    """One picture and its objects. `width` and `height` are the size after EXIF orientation.

    federated: None if every object of every class is annotated, as in most data sets.
    """

    path: Path
    image_id: int
    width: int
    height: int
    instances: tuple[Instance, ...]
    federated: Federated | None = None


@dataclass(frozen=True, repr=False)
class AnnotatedData:
    """A data set. Label i stands for category_ids[i] and has the name classes[i].

    notes: what the reader left out, one sentence each. source: the file or folder of the data set, for messages. files:
    the annotation files that were read.
    """

    samples: tuple[Sample, ...]
    category_ids: tuple[int, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    source: Path
    files: frozenset[Path] = frozenset()

    def __repr__(self) -> str:
        objects = sum(len(sample.instances) for sample in self.samples)
        kinds = f"{len(self.classes)} class{'es' * (len(self.classes) != 1)}: {some(self.classes)}"
        return f"AnnotatedData({str(self.source)!r}, {len(self.samples)} pictures, {objects} objects, {kinds})"


def skip_empty(data: AnnotatedData) -> AnnotatedData:
    """Return `data` without the pictures that hold no object or only crowds. A note counts these pictures."""
    kept = tuple(sample for sample in data.samples if not all(instance.crowd for instance in sample.instances))
    left_out = len(data.samples) - len(kept)
    if not left_out:
        return data
    note = f"left out {left_out} of {len(data.samples)} pictures without an annotated object"
    return replace(data, samples=kept, notes=(*data.notes, note))

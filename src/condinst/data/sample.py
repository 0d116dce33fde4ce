"""One annotated picture, as every reader of an annotation format returns it. Nothing is drawn or decoded yet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array8 = NDArray[np.uint8]
Matrix = NDArray[np.float64]  # (2, 3): source coordinates (pixel edges at integers) → output coordinates
Box = tuple[float, float, float, float]  # xyxy, pixel edges at integers


@dataclass(frozen=True)
class Polygons:
    """A region as the union of its parts, each (P, 2) float64 vertices (x, y), P ≥ 3."""

    parts: tuple[NDArray[np.float64], ...]


@dataclass(frozen=True)
class Bitmap:
    """A region as pixels: `mask` (h, w) uint8 of 0 and 1, cut to its tight box, whose top left pixel is (x, y)."""

    mask: Array8
    x: int
    y: int


@dataclass(frozen=True)
class Instance:
    """One annotated object, in pixels of the picture.

    `shape` is None where only a box was annotated, and for crowds: their large regions are never drawn.
    """

    label: int  # 0-based
    box: Box
    shape: Polygons | Bitmap | None
    crowd: bool
    annotation_id: int


@dataclass(frozen=True)
class Sample:
    """One picture and its objects; `width` and `height` are those after EXIF orientation."""

    path: Path
    image_id: int
    width: int
    height: int
    instances: tuple[Instance, ...]

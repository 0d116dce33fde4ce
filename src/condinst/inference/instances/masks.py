"""Masks of K instances in pixels of the original image. They are stored as RLE and decoded on request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, cast

import numpy as np
import torch
from numpy.typing import NDArray

from condinst.inference.instances.boxes import Array, Index, choose_rows
from condinst.ops.bitmaps.bridges import bridge
from condinst.ops.bitmaps.contours import Polygon, trace
from condinst.ops.bitmaps.rle import Rle, areas, decode, decode_region


@dataclass(frozen=True, repr=False)
class Masks(Generic[Array]):
    """The masks of K instances.

    rle: K dicts in COCO's run-length encoding, ready for JSON. orig_shape: (height, width) of each mask. as_numpy:
    `data` is a NumPy array instead of a torch tensor.
    """

    rle: tuple[Rle, ...]
    orig_shape: tuple[int, int]
    as_numpy: bool = False

    @property
    def data(self) -> Array:
        """Bitmaps (K, height, width) bool, decoded at each access. They need K · height · width bytes."""
        bitmaps = np.zeros((len(self.rle), *self.orig_shape), dtype=np.bool_)
        for bitmap, rle in zip(bitmaps, self.rle, strict=True):
            bitmap[:] = decode(rle)
        return cast(Array, bitmaps if self.as_numpy else torch.from_numpy(bitmaps))

    @property
    def polygons(self) -> list[list[Polygon]]:
        """The polygons of each instance: outer rings and holes along pixel edges. They cover the mask exactly."""
        return [trace(*decode_region(rle)) for rle in self.rle]

    @property
    def xy(self) -> list[NDArray[np.float32]]:
        """One outline (P, 2) float32 of x, y in pixels for each instance, as in ultralytics.

        Cuts without width join the outer rings of a mask with several parts. Holes are filled. `polygons` keeps parts
        and holes separate. Vertices lie on pixel corners. An empty mask has an outline without points.
        """
        return [_outline(parts) for parts in self.polygons]

    @property
    def xyn(self) -> list[NDArray[np.float32]]:
        """`xy` divided by the width and height of the image, in [0, 1]."""
        height, width = self.orig_shape
        size: NDArray[np.float32] = np.array([width, height], dtype=np.float32)
        return [np.divide(outline, size) for outline in self.xy]

    @property
    def areas(self) -> NDArray[np.int64]:
        """The number of pixels of each mask: (K,) int64."""
        return areas(self.rle)

    def cpu(self) -> Masks[Array]:
        """The masks themselves. They are always on the CPU."""
        return self

    def numpy(self) -> Masks[NDArray[Any]]:
        """The same masks with `data` as a NumPy array."""
        return Masks(self.rle, self.orig_shape, as_numpy=True)

    def __len__(self) -> int:
        return len(self.rle)

    def __getitem__(self, index: Index) -> Masks[Array]:
        """The chosen masks. index: a number, slice, list, or int or bool array or tensor. Raises IndexError."""
        return replace(self, rle=tuple(self.rle[row] for row in choose_rows(index, len(self)).tolist()))

    def __iter__(self) -> Iterator[Masks[Array]]:
        return (self[row] for row in range(len(self)))

    def __repr__(self) -> str:
        height, width = self.orig_shape
        return f"Masks({len(self)} of {width}×{height} pixels)"


def _outline(parts: list[Polygon]) -> NDArray[np.float32]:
    if not parts:
        return np.zeros((0, 2), dtype=np.float32)
    return bridge([part.outer for part in parts]).astype(np.float32)

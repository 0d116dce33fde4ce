"""Training targets of the SOLO family: which cells belong to which object, and their masks (arXiv 1912.04488, §3.1).

Shapes: N images, M objects of one image, C classes, S cells along each side of a level's grid, L cells of all levels,
H×W the padded input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from condinst.ops.bitmaps.packed_masks import unpack
from condinst.structures import Truth

MOST_CELLS = 3  # rows, and columns, of an object's cells
PIXELS_AT_ONCE = 2**24  # pixels of masks that are unpacked together: 16 MiB


class LevelTargets(NamedTuple):
    """The masks that the cells of a level learn.

    images, cells, masks: (P,) int64. Cell `cells[p]` of image `images[p]` learns the mask `bitmaps[masks[p]]`.
    bitmaps: (M, h, w) bool, the masks of the objects of all images on the level.
    """

    images: Tensor
    cells: Tensor
    masks: Tensor
    bitmaps: Tensor


class SoloTargets(NamedTuple):
    """The targets of a batch. labels: (N, L) int64 in [0, C], where C is background. levels: P2 first."""

    labels: Tensor
    levels: tuple[LevelTargets, ...]


class Level(NamedTuple):
    """A level: S, the smallest and the largest square root of the area of its boxes, and the stride of its masks."""

    grid: int
    low: float
    high: float
    mask_stride: int


class Claims(NamedTuple):
    """The cells of the objects of an image on a level. objects, cells: (P,) int64. owner: (S²,) int64, −1 for none."""

    objects: Tensor
    cells: Tensor
    owner: Tensor


def assign_cells(
    truths: Sequence[Truth], size: tuple[int, int], levels: Sequence[Level], classes: int, part: float, repeated: bool
) -> SoloTargets:
    """The targets of a batch.

    size: (height, width) of the padded input. classes: C. part: the part of an object's box, moved to the centroid of
    its mask, whose cells belong to the object. Of several objects of a cell, the last one gives its class. repeated:
    the cell learns the masks of all of them, as in SOLOv2, and otherwise of the last one only. An object without an
    annotated mask gives its cells a class and no mask.
    """
    labels, targets = [], []
    for level in levels:
        claims = [claim_cells(truth, size, level, part) for truth in truths]
        owners = [claim.owner for claim in claims]
        labels.append(
            torch.stack([_labels(owner, truth, classes) for owner, truth in zip(owners, truths, strict=True)])
        )
        chosen = [(claim.objects, claim.cells) if repeated else _of_owners(claim.owner) for claim in claims]
        targets.append(_collect(truths, chosen, size, level.mask_stride))
    return SoloTargets(torch.cat(labels, dim=1), tuple(targets))


def claim_cells(truth: Truth, size: tuple[int, int], level: Level, part: float) -> Claims:
    """The cells of the objects of an image on a level, object by object and row by row."""
    sides = truth.boxes[:, 2:] - truth.boxes[:, :2]
    scale = sides.prod(dim=1).sqrt()
    drawn = truth.mask_places[:, 2:].prod(dim=1) > 0
    taken = ((scale >= level.low) & (scale <= level.high) & drawn).nonzero()[:, 0]
    first, last = _ranges(truth.centroids[taken], sides[taken], size, level.grid, part)  # (K, 2) each, x and y
    steps = torch.arange(MOST_CELLS, device=first.device)
    columns, rows = (first[:, axis, None] + steps for axis in (0, 1))  # (K, 3) each
    inside = (rows <= last[:, 1:])[:, :, None] & (columns <= last[:, :1])[:, None, :]
    cells = (rows[:, :, None] * level.grid + columns[:, None, :])[inside]
    objects = taken[:, None, None].expand_as(inside)[inside]
    owner = torch.full((level.grid**2,), -1, dtype=torch.int64, device=cells.device)
    return Claims(objects, cells, owner.scatter_reduce(0, cells, objects, "amax"))


def _ranges(centroids: Tensor, sides: Tensor, size: tuple[int, int], grid: int, part: float) -> tuple[Tensor, Tensor]:
    """The first and the last (column, row) of K objects: two (K, 2) int64. centroids, sides: (K, 2), x and y."""
    extent = torch.tensor([size[1], size[0]], device=centroids.device)

    def cell(points: Tensor) -> Tensor:
        # in this order of float32 roundings, as published, so that a point on an edge falls into the published cell
        return torch.div(points / extent, 1 / grid, rounding_mode="trunc").long()

    half, middle = 0.5 * sides * part, cell(centroids)
    first = torch.maximum(cell(centroids - half).clamp(min=0), middle - 1)
    return first, torch.minimum(cell(centroids + half).clamp(max=grid - 1), middle + 1)


def _labels(owner: Tensor, truth: Truth, classes: int) -> Tensor:
    """The label of each cell (S²,)."""
    labels = torch.full_like(owner, classes)
    owned = owner >= 0
    labels[owned] = truth.labels[owner[owned]]
    return labels


def _of_owners(owner: Tensor) -> tuple[Tensor, Tensor]:
    """The object and the index of each owned cell."""
    cells = (owner >= 0).nonzero()[:, 0]
    return owner[cells], cells


def _collect(
    truths: Sequence[Truth], chosen: Sequence[tuple[Tensor, Tensor]], size: tuple[int, int], stride: int
) -> LevelTargets:
    """The targets of a level. chosen: the objects and the cells of the positives of each image."""
    images, cells, masks, bitmaps = [], [], [], []
    count = 0
    for image, (truth, pairs) in enumerate(zip(truths, chosen, strict=True)):
        objects, places = (part[truth.has_mask[pairs[0]]] for part in pairs)
        which, index = torch.unique(objects, return_inverse=True)
        images.append(torch.full_like(places, image))
        cells.append(places)
        masks.append(index + count)
        bitmaps.append(shrink_masks(truth, which, size, stride))
        count += len(which)
    return LevelTargets(torch.cat(images), torch.cat(cells), torch.cat(masks), torch.cat(bitmaps))


def shrink_masks(truth: Truth, chosen: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """The masks of the objects `chosen` (K,), `stride` times smaller: (K, H/stride, W/stride) bool.

    A pixel is set if at least two of the four pixels in the middle of its stride×stride pixels are, as OpenCV's
    bilinear resizing rounds. stride: even. Sides are multiples of it.
    """
    height, width = size[0] // stride, size[1] // stride
    shrunk = [torch.zeros(0, height, width, dtype=torch.bool, device=chosen.device)]
    middle = slice(stride // 2 - 1, stride // 2 + 1)
    for some in torch.split(chosen, max(PIXELS_AT_ONCE // (size[0] * size[1]), 1)):
        masks = unpack(truth.mask_pixels, truth.mask_places, some, size)
        blocks = masks.view(-1, height, stride, width, stride)[:, :, middle, :, middle]
        shrunk.append(blocks.sum((2, 4)) >= 2)
    return torch.cat(shrunk)

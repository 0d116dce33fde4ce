"""Visible instances → Truth. Masks are stored only at mask_out_stride."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from condinst.data.sample import Matrix, Sample
from condinst.data.shown import Shown, sampled, show
from condinst.ops.bitmaps.rle import Region
from condinst.structures import MASK_FEATURE_STRIDE, Truth


def draw_truth(sample: Sample, matrix: Matrix, height: int, width: int, stride: int) -> Truth:
    """The truth of an image of (height, width) pixels that shows `sample` moved by `matrix` (2, 3)."""
    return make_truth(show(sample, matrix, height, width), height, width, stride)


def make_truth(things: Sequence[Shown], height: int, width: int, stride: int) -> Truth:
    """Return the training truth of an image of (height, width) pixels. Masks are sampled at [stride/2::stride]."""
    pixels, places = _pack([thing.region for thing in things], stride)
    return Truth(
        boxes=torch.tensor([thing.box for thing in things], dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor([thing.label for thing in things], dtype=torch.int64),
        centroids=torch.tensor([thing.centroid for thing in things], dtype=torch.float32).reshape(-1, 2),
        mask_pixels=torch.from_numpy(pixels),
        mask_places=torch.from_numpy(places),
        semantic=torch.from_numpy(_sample_labels([thing for thing in things if thing.has_mask], (height, width))),
        has_mask=torch.tensor([thing.has_mask for thing in things], dtype=torch.bool),
    )


def _pack(regions: Sequence[Region], stride: int) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return the masks at [stride/2::stride], as ops/bitmaps/packed_masks.py describes: (P,) and (M, 4)."""
    taken = [sampled(region, stride) for region in regions]
    places = [(x, y, part.shape[1], part.shape[0]) for x, y, part in taken]
    pixels = [np.zeros(0, dtype=np.bool_), *(part.ravel() for _, _, part in taken)]
    return np.concatenate(pixels), np.array(places, dtype=np.int64).reshape(-1, 4)


def _sample_labels(things: list[Shown], size: tuple[int, int]) -> NDArray[np.int64]:
    """Return (ceil(H / 8), ceil(W / 8)): the label of the smallest mask at the pixels [4::8], or −1 without a mask."""
    semantic = np.full([math.ceil(side / MASK_FEATURE_STRIDE) for side in size], -1, dtype=np.int64)
    for thing in sorted(things, key=lambda thing: -int(thing.region.bitmap.sum(dtype=np.int64))):
        x, y, part = sampled(thing.region, MASK_FEATURE_STRIDE)
        semantic[y : y + part.shape[0], x : x + part.shape[1]][part] = thing.label
    return semantic

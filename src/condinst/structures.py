"""Every tensor bag that crosses a file.

N images, C classes, F mask features, M true instances of one image, K chosen instances,
L locations over all levels, H×W the padded input. Boxes are xyxy in pixels of the padded input.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor

STRIDES = (8, 16, 32, 64, 128)  # P3–P7
MASK_FEATURE_STRIDE = 8


class Images(NamedTuple):
    """A batch as the network sees it.

    tensor: (N, 3, H, W) float32, normalised, zero-padded right and bottom.
    sizes: per image (height, width) of its content inside the padding.
    original_sizes: per image (height, width) of the file before any resizing.
    """

    tensor: Tensor
    sizes: tuple[tuple[int, int], ...]
    original_sizes: tuple[tuple[int, int], ...]


class Truth(NamedTuple):
    """The annotation of one training image, in the padded input's pixels.

    boxes: (M, 4) float32. labels: (M,) int64 in [0, C). centroids: (M, 2) float32 (x, y) of each full-resolution
    mask. mask_pixels, mask_places: (P,) bool and (M, 4) int64, the full-resolution masks sampled at [s/2::s], s =
    mask_out_stride, and packed (ops/packed_masks.py). semantic: (ceil(H/8), ceil(W/8)) int64, at the pixels [4::8] the
    label of the smallest mask there, −1 where none. has_mask: (M,) bool; an instance without a mask has its filled box
    for one and the box's centre for centroid, and is not in `semantic`.
    """

    boxes: Tensor
    labels: Tensor
    centroids: Tensor
    mask_pixels: Tensor
    mask_places: Tensor
    semantic: Tensor
    has_mask: Tensor


class HeadOutput(NamedTuple):
    """What the FCOS head says of each location; one map per level P3…P7, before any sigmoid.

    class_logits: (N, C, h, w). distances_in_strides: (N, 4, h, w) left, top, right, bottom, ≥ 0.
    centerness_logits: (N, 1, h, w). filters: (N, count, h, w), the controller's numbers.
    """

    class_logits: tuple[Tensor, ...]
    distances_in_strides: tuple[Tensor, ...]
    centerness_logits: tuple[Tensor, ...]
    filters: tuple[Tensor, ...]


class NetworkOutput(NamedTuple):
    """One forward pass. mask_features: (N, F, H/8, W/8). semantic_logits: (N, C, H/8, W/8), or None where not made."""

    head: HeadOutput
    mask_features: Tensor
    semantic_logits: Tensor | None


class Targets(NamedTuple):
    """What each location of a batch should say; locations of all levels in one row, P3 first.

    labels: (N, L) int64, C where background. distances_in_strides: (N, L, 4), 0 where background.
    centerness: (N, L), 0 where background. instance_index: (N, L) int64 into the masks, −1 where background.
    mask_pixels, mask_places: the packed masks of all images, (P,) bool and (M of all images, 4) int64.
    semantic: (N, H/8, W/8) int64, −1 where background.
    has_mask: (M of all images,) bool, whether it is a mask or a filled box.
    """

    labels: Tensor
    distances_in_strides: Tensor
    centerness: Tensor
    instance_index: Tensor
    mask_pixels: Tensor
    mask_places: Tensor
    semantic: Tensor
    has_mask: Tensor


class Positives(NamedTuple):
    """Positive locations of a batch, sorted. image_index, location_index: (K,) int64 into (N, L)."""

    image_index: Tensor
    location_index: Tensor


class PositiveMasks(NamedTuple):
    """What the dynamic mask head draws for K positives.

    logits: (K, H/s, W/s) float32. image_index: (K,) int64. instance_index: (K,) int64 into the masks of Targets.
    """

    logits: Tensor
    image_index: Tensor
    instance_index: Tensor


class ColourPairs(NamedTuple):
    """Mask pixels of one colour with a neighbour, in the pictures of a batch; D directions to find it in.

    steps: (down, right) to the neighbour, in mask pixels. from_here, from_there: (N, D, H/s, W/s) bool, whether the
    pair counts for an instance whose box holds the pixel, for one whose box holds its neighbour.
    """

    steps: tuple[tuple[int, int], ...]
    from_here: Tensor
    from_there: Tensor


class Norms(NamedTuple):
    """What the losses are divided by, the mean over processes: scalars of any float dtype."""

    positives: Tensor
    centerness: Tensor


class Losses(NamedTuple):
    """The terms of the objective, already weighted: scalars. Their sum is what is minimised."""

    classification: Tensor
    box: Tensor
    quality: Tensor
    mask: Tensor
    projection: Tensor
    pairwise: Tensor
    semantic: Tensor


class Detections(NamedTuple):
    """The instances of one image after NMS, best first.

    boxes: (K, 4) in the padded input's pixels. scores: (K,). labels: (K,) int64. locations: (K, 2) (x, y) in pixels.
    levels: (K,) int64, 0 for P3. filters: (K, count).
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    locations: Tensor
    levels: Tensor
    filters: Tensor


@dataclass(frozen=True)
class FilterLayout:
    """How the controller's numbers split into layers: all weights first, then all biases (paper §3.1)."""

    features: int = 8
    coordinates: int = 2  # 2 with coordinates, 0 without
    depth: int = 3
    width: int = 8

    @property
    def sizes(self) -> list[int]:
        """Channels from the input to the single mask logit."""
        return [self.features + self.coordinates, *[self.width] * (self.depth - 1), 1]

    @property
    def weight_counts(self) -> list[int]:
        """Weights of each layer, (out, in) row-major."""
        return [inputs * outputs for inputs, outputs in pairwise(self.sizes)]

    @property
    def count(self) -> int:
        """Numbers the controller predicts for one instance: 169 by default."""
        return sum(self.weight_counts) + sum(self.sizes[1:])

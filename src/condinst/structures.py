"""The types that pass tensors from one module to another.

Shapes: N images, C classes, F mask features, M annotated instances of one image, K chosen instances, L locations over
all levels, H×W the padded input, s the mask_out_stride. Boxes are xyxy in pixels of the padded input. Float tensors are
float32 unless stated otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:  # `condinst data check` reads STRIDES without loading torch
    from torch import Tensor

STRIDES = (8, 16, 32, 64, 128)  # P3–P7
MASK_FEATURE_STRIDE = 8
Enlarging = Literal["aligned", "bilinear", "soft", "stretched", "boxed"]


class Geometry(NamedTuple):
    """Where the locations of a method lie, and how its masks grow to the size of the picture.

    strides: pixels of the padded input for each pixel of a level's map, one number for each level, largest map first.
        In the SOLO family, a cell of the grid is larger than a pixel of the map.
    offset: where a location lies in its cell, as a part of the stride: 0.5 is the centre, 0 the top left corner. The
        pixels of the mask features have the same offset in theirs.
    centerness: whether the head has a centerness output, which is then a factor of the score.
    enlarging: what the values of a drawn mask are, and how they become a mask of the picture. "aligned": logits at
        mask_stride that grow to mask_out_stride, then as probabilities to the picture, so that pixel f·i + f//2 equals
        cell i. "bilinear": logits that grow to the picture, so that the areas of both agree. "soft":
        probabilities that grow like this. "stretched": probabilities of
        a map of the picture without padding. "boxed": probabilities of a square that fills the box of the instance.
    clips: what limits the boxes: the "picture", or the "canvas", which is the padded input. On the canvas, boxes
        without an area are no candidates. "masks": the method finds no boxes; they enclose the masks.
    mask_stride: pixels of the padded input for each value of a drawn mask. "stretched" and "boxed" do not use it.
    passing: what a candidate's threshold is compared with under `DetectConfig.score_root`: the "product" of class
        probability and centerness, or the "class" probability alone.
    centre: where the FCOS assigner looks for positive locations: around the centroid of the "mask", or the centre of
        the "box".
    cut: whether masks are cut to their boxes.
    """

    strides: tuple[int, ...]
    offset: float
    centerness: bool
    enlarging: Enlarging
    clips: Literal["picture", "canvas", "masks"]
    mask_stride: int = MASK_FEATURE_STRIDE
    passing: Literal["product", "class"] = "product"
    centre: Literal["mask", "box"] = "mask"
    cut: bool = False


CONDINST = Geometry(STRIDES, 0.5, True, "aligned", "picture")
RTMDET_INS = Geometry((8, 16, 32), 0.0, False, "bilinear", "canvas")
YOLACT = Geometry(STRIDES, 0.5, False, "stretched", "picture")
SOLO = Geometry((8, 8, 16, 32, 32), 0.5, False, "soft", "masks", 4)
BLENDMASK = Geometry(STRIDES, 0.5, True, "boxed", "picture", centre="box")
MEINST = Geometry(STRIDES, 0.5, True, "boxed", "picture", passing="class", centre="box")
YOLACT_ON_FCOS = CONDINST._replace(cut=True)


class Images(NamedTuple):
    """A batch of images, ready for the network.

    tensor: (N, 3, H, W) float32, normalised, padded with zeros at the right and at the bottom.
    sizes: (height, width) of each image after resizing, without the padding.
    original_sizes: (height, width) of each image in its file, before any resizing.
    """

    tensor: Tensor
    sizes: tuple[tuple[int, int], ...]
    original_sizes: tuple[tuple[int, int], ...]


class Truth(NamedTuple):
    """The annotation of one training image, in pixels of the padded input.

    boxes: (M, 4) float32.
    labels: (M,) int64 in [0, C).
    centroids: (M, 2) float32, the (x, y) of each mask's centroid at full resolution.
    mask_pixels, mask_places: (P,) bool and (M, 4) int64. The masks are sampled at [s/2::s] and packed as
        `condinst.ops.bitmaps.packed_masks` describes.
    semantic: (⌈H/8⌉, ⌈W/8⌉) int64. Each entry is the label of the smallest mask at a pixel of [4::8], or −1 if there
        is no mask.
    has_mask: (M,) bool. An instance without an annotated mask gets its filled box as mask and the box's centre as
        centroid. It does not appear in `semantic`.
    """

    boxes: Tensor
    labels: Tensor
    centroids: Tensor
    mask_pixels: Tensor
    mask_places: Tensor
    semantic: Tensor
    has_mask: Tensor


class HeadOutput(NamedTuple):
    """The output of the head: one map for each pyramid level, P3 first (paper §3.2). No sigmoid has been applied.

    class_logits: (N, C, h, w).
    distances_in_strides: (N, 4, h, w), the distances ≥ 0 from a location to the left, top, right and bottom of its box.
    centerness_logits: (N, 1, h, w), or no maps if the head has no centerness; see `Geometry`.
    filters: (N, count, h, w), the output of the controller: the weights and biases of the dynamic mask head, the
        attention of BlendMask, or the mask code of MEInst. With a `NetworkOutput.controller`, the maps
        (N, channels, h, w) that the controller reads.
    """

    class_logits: tuple[Tensor, ...]
    distances_in_strides: tuple[Tensor, ...]
    centerness_logits: tuple[Tensor, ...]
    filters: tuple[Tensor, ...]


class Controller(NamedTuple):
    """The controller, a 3×3 convolution, to be computed where instances are found.

    weight: (9·channels, count), the kernel's elements row by row. bias: (count,).
    """

    weight: Tensor
    bias: Tensor


class LevelControllers(NamedTuple):
    """The layers that make the filters of RTMDet-Ins from its maps, to be computed where instances are found.

    levels: for each pyramid level the weight (out, in, k, k) and the bias (out,) of its convolutions, k odd. A SiLU
        follows each convolution but the last.
    """

    levels: tuple[tuple[tuple[Tensor, Tensor], ...], ...]


class MaskCode(NamedTuple):
    """The linear code of square masks that MEInst predicts: the principal components of training masks (arXiv
    2003.11712, §3.1).

    components: (D, m²), orthonormal rows; a mask has m × m cells, row by row. variances: (D,), of the training masks
    along the components. means: (m²,).
    """

    components: Tensor
    variances: Tensor
    means: Tensor


class NetworkOutput(NamedTuple):
    """The result of one forward pass.

    head: the output of the FCOS head.
    mask_features: (N, F, H/8, W/8). The bases (N, F, H/4, W/4) of BlendMask. No channels with MEInst.
    semantic_logits: (N, C, H/8, W/8), or None if the model has no semantic head or is in evaluation mode. With
        BlendMask (N, 1 + C, H/8, W/8), the background first.
    controller: None if the network computed the filters of all locations, as in training. Prediction needs the filters
        of the detected instances only, so there the network leaves them to `detect`.
    code: what the filters of MEInst are numbers of, None for the other methods.
    """

    head: HeadOutput
    mask_features: Tensor
    semantic_logits: Tensor | None
    controller: Controller | LevelControllers | None = None
    code: MaskCode | None = None


class Targets(NamedTuple):
    """The training targets of a batch. The locations of all levels lie on one axis, P3 first.

    labels: (N, L) int64 in [0, C], where C is background.
    distances_in_strides: (N, L, 4), 0 for background. Negative where a location lies outside its instance's box.
    quality: (N, L) in [0, 1], 0 for background: the centerness of the location or, from the dynamic assigner, the IoU
        of its predicted box.
    instance_index: (N, L) int64, an index into the masks of all images, or −1 for background.
    mask_pixels, mask_places: (P,) bool and (M of all images, 4) int64, the packed masks of all images.
    semantic: (N, H/8, W/8) int64, a label, or −1 for background.
    has_mask: (M of all images,) bool, False if the mask is a filled box.
    """

    labels: Tensor
    distances_in_strides: Tensor
    quality: Tensor
    instance_index: Tensor
    mask_pixels: Tensor
    mask_places: Tensor
    semantic: Tensor
    has_mask: Tensor


class Positives(NamedTuple):
    """The positive locations of a batch, in ascending order.

    image_index, location_index: (K,) int64, indices into the two axes of (N, L).
    """

    image_index: Tensor
    location_index: Tensor


class PositiveMasks(NamedTuple):
    """The masks that the dynamic mask head predicts for K positives.

    logits: (K, H/s, W/s) float32.
    image_index: (K,) int64, the image of each positive.
    instance_index: (K,) int64, an index into the masks of `Targets`.
    """

    logits: Tensor
    image_index: Tensor
    instance_index: Tensor


class ColourPairs(NamedTuple):
    """Pairs of neighbouring mask pixels that have similar colours, for the pairwise loss of BoxInst.

    Each pair consists of a pixel and its neighbour in one of D directions.

    steps: D pairs (down, right), the distance to the neighbour in mask pixels.
    from_here: (N, D, H/s, W/s) bool, True if the pair counts for an instance whose box holds the pixel.
    from_there: (N, D, H/s, W/s) bool, True if the pair counts for an instance whose box holds the neighbour.
    """

    steps: tuple[tuple[int, int], ...]
    from_here: Tensor
    from_there: Tensor


class Norms(NamedTuple):
    """The numbers that the losses are divided by: scalars of any float dtype, averaged over all processes.

    positives: the number of positive locations.
    quality: the sum of the targets' quality.
    """

    positives: Tensor
    quality: Tensor


class Counts(NamedTuple):
    """What the losses of one batch are divided by, before any averaging: scalars.

    positives, quality: see `Norms`. masks: the number of positives whose masks are trained. semantic: the number of
    pixels of the semantic targets with a label.
    """

    positives: Tensor
    quality: Tensor
    masks: Tensor
    semantic: Tensor


class Losses(NamedTuple):
    """The weighted terms of the training loss, each a scalar (paper §3.3). Training minimises their sum."""

    classification: Tensor
    box: Tensor
    quality: Tensor
    mask: Tensor
    projection: Tensor
    pairwise: Tensor
    semantic: Tensor


class Detections(NamedTuple):
    """The instances of one image after non-maximum suppression, best first.

    boxes: (K, 4) in pixels of the padded input.
    scores: (K,) in [0, 1].
    labels: (K,) int64 in [0, C).
    locations: (K, 2), the (x, y) of the location that found the instance, in pixels of the padded input.
    levels: (K,) int64, the pyramid level of that location: 0 for P3 to 4 for P7.
    filters: (K, count), what the location says about the mask, see `HeadOutput`.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    locations: Tensor
    levels: Tensor
    filters: Tensor


@dataclass(frozen=True)
class FilterLayout:
    """How the controller's output splits into layers: all weights first, then all biases (paper §3.1).

    features: channels of the mask features.
    coordinates: 2 if the dynamic mask head reads coordinates, otherwise 0.
    depth: number of 1×1 convolutions.
    width: channels between two convolutions.
    biases: whether the output holds biases. They are 0 otherwise.
    bounded: whether a tanh limits the output to numbers from −1 to 1.
    """

    features: int = 8
    coordinates: int = 2
    depth: int = 3
    width: int = 8
    biases: bool = True
    bounded: bool = False

    @property
    def sizes(self) -> list[int]:
        """Channels of the input and of each layer's output; the last is 1, the mask logit."""
        return [self.features + self.coordinates, *[self.width] * (self.depth - 1), 1]

    @property
    def weight_counts(self) -> list[int]:
        """Number of weights of each layer. They are stored as (out, in), row by row."""
        return [inputs * outputs for inputs, outputs in pairwise(self.sizes)]

    @property
    def count(self) -> int:
        """Number of weights and biases for one instance: 169 by default."""
        return sum(self.weight_counts) + (self.bias_count if self.biases else 0)

    @property
    def bias_count(self) -> int:
        """Number of biases of one instance, whether the output holds them or not."""
        return sum(self.sizes[1:])

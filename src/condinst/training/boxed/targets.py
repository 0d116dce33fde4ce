"""Training targets of BlendMask and MEInst: those of FCOS, and the true masks as squares inside their boxes.

Shapes: N images, M instances of all images, R cells along each side of a square.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

from condinst.config import Config
from condinst.ops.locations import level_sizes
from condinst.structures import MASK_FEATURE_STRIDE, Counts, Targets, Truth
from condinst.training.targets import assign, measure_norms

PAD = 2  # pixels around the rectangle of a mask; a sample farther outside is 0 in any case


class BoxedTargets(NamedTuple):
    """The training targets of a batch.

    locations: what each location learns. boxes: (M, 4) xyxy in pixels of the padded input. image_index: (M,) int64.
    squares: (M, R, R) bool, the mask inside the box; empty for an instance without a positive location. semantic:
    (N, H/8, W/8) int64, a label + 1, or 0 for the background, or None if nothing learns from it.
    """

    locations: Targets
    boxes: Tensor
    image_index: Tensor
    squares: Tensor
    semantic: Tensor | None


def assign_boxed(
    truths: tuple[Truth, ...], size: tuple[int, int], config: Config, side: int, semantic: bool
) -> BoxedTargets:
    """The targets of a batch. size: (height, width) of the padded input. side: R.

    The square of possible positives lies around the centre of the box, not around the centroid of the mask.
    """
    model, classes = config.model, max(len(config.model.classes), 1)
    truths = tuple(truth._replace(centroids=(truth.boxes[:, :2] + truth.boxes[:, 2:]) / 2) for truth in truths)
    sizes = level_sizes(*size, model.geometry.strides)
    locations = assign(truths, sizes, model.size_ranges, classes, config.targets.center_radius)
    boxes, counts = torch.cat([truth.boxes for truth in truths]), [len(truth.boxes) for truth in truths]
    learned = torch.unique(locations.instance_index[locations.instance_index >= 0])
    return BoxedTargets(
        locations,
        boxes,
        torch.arange(len(truths), device=boxes.device).repeat_interleave(torch.tensor(counts, device=boxes.device)),
        crop_masks(locations.mask_pixels, locations.mask_places, boxes, learned, side, size),
        torch.stack([paint_semantic(truth, size) for truth in truths]) if semantic else None,
    )


def count_boxed(targets: BoxedTargets, config: Config) -> Counts:
    """The divisors of the losses. That of the masks is the sum of the qualities, which all parts of a step share."""
    norms = measure_norms(targets.locations)
    semantic = norms.positives.new_tensor(0 if targets.semantic is None else targets.semantic.numel())
    return Counts(norms.positives, norms.quality, torch.ones_like(norms.positives), semantic)


def crop_masks(
    pixels: Tensor, places: Tensor, boxes: Tensor, chosen: Tensor, side: int, size: tuple[int, int]
) -> Tensor:
    """The masks inside boxes (M, 4) as squares (M, side, side) bool, for the instances `chosen` (K,) int64.

    pixels, places: packed masks at stride 1. size: (height, width) of the padded input. A cell is true where the mean
    of bilinear samples, at most a pixel apart, reaches 1/2.
    """
    squares = torch.zeros((len(boxes), side, side), dtype=torch.bool, device=boxes.device)
    rectangles, starts = places.tolist(), _starts(places)
    for one in chosen.tolist():
        x, y, width, height = rectangles[one]
        if not width * height:
            continue
        mask = pixels[starts[one] : starts[one] + width * height].reshape(height, width)
        squares[one] = crop_mask(mask, (x, y), boxes[one], side, size)
    return squares


def crop_mask(mask: Tensor, place: tuple[int, int], box: Tensor, side: int, size: tuple[int, int]) -> Tensor:
    """One mask inside its box (4,) as a square (side, side) bool, see `crop_masks`.

    mask: (h, w) bool, a rectangle of the picture whose first pixel is `place` = (x, y). Outside of it there is none.
    size: (height, width) of the picture.
    """
    (height, width), (x, y) = mask.shape, place
    # zeros around the mask, but not outside of the picture, where samples repeat its border
    left, top, right, bottom = (min(PAD, room) for room in (x, y, size[1] - x - width, size[0] - y - height))
    window = F.pad(mask.to(box.dtype), (left, right, top, bottom))
    moved = box - box.new_tensor([x - left, y - top, x - left, y - top])
    shares = roi_align(window[None, None], [moved[None]], side, 1.0, sampling_ratio=0, aligned=True)
    square: Tensor = shares[0, 0] >= 0.5
    return square


def paint_semantic(truth: Truth, size: tuple[int, int]) -> Tensor:
    """The semantic map (⌈H/8⌉, ⌈W/8⌉) int64 at the pixels [::8, ::8]: a label + 1, or 0 for the background.

    Masks are painted in the order of the annotation, later ones over earlier ones. Filled boxes are no masks.
    """
    stride = MASK_FEATURE_STRIDE
    semantic = truth.labels.new_zeros([-(-side // stride) for side in size])
    rows = zip(
        truth.mask_places.tolist(), _starts(truth.mask_places), truth.labels, truth.has_mask.tolist(), strict=True
    )
    for (x, y, width, height), start, label, has_mask in rows:
        if not has_mask:
            continue
        mask = truth.mask_pixels[start : start + width * height].reshape(height, width)
        seen = mask[-y % stride :: stride, -x % stride :: stride]
        first_y, first_x = -(-y // stride), -(-x // stride)
        part = semantic[first_y : first_y + seen.shape[0], first_x : first_x + seen.shape[1]]
        torch.where(seen, label + 1, part, out=part)
    return semantic


def _starts(places: Tensor) -> list[int]:
    """Where the pixels of each packed mask begin."""
    areas = places[:, 2] * places[:, 3]
    starts: list[int] = (areas.cumsum(0) - areas).tolist()
    return starts

"""The training targets of YOLACT: which anchor learns which instance (arXiv 1904.02689, §3 and §6.1).

Shapes: N images, M instances of one image, L anchors over all levels, C classes, h×w the size of P3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from condinst.config import Config
from condinst.model.yolact import YolactOutput
from condinst.ops.anchors import make_anchors
from condinst.ops.bitmaps.packed_masks import unpack
from condinst.ops.boxes import intersection_and_union
from condinst.ops.locations import level_sizes
from condinst.structures import Counts, Truth

POSITIVE, NEGATIVE = 0.5, 0.4  # IoU from which an anchor is positive, and below which it is background
IGNORED = -1  # label of an anchor between the two
PIXELS_AT_ONCE = 2**24  # of masks at full resolution; bounds the memory


class YolactTargets(NamedTuple):
    """The training targets of a batch.

    labels: (N, L) int64, C for background, −1 for anchors that are ignored.
    instance_index: (N, L) int64, an index into the instances of all images, or −1.
    boxes: (M of all images, 4). has_mask: (M of all images,) bool, False if the instance has only a box.
    masks: (M of all images, 2h, 2w) bool, at the size of the prototypes.
    semantic: (N, C, h, w) bool. The pixels of class c are in channel (c − 1) mod C, see `YolactOutput`.
    drawn: (N,) bool, whether an image has an instance with a mask.
    """

    labels: Tensor
    instance_index: Tensor
    boxes: Tensor
    has_mask: Tensor
    masks: Tensor
    semantic: Tensor
    drawn: Tensor


@torch.no_grad()
def assign_anchors(
    output: YolactOutput | None, truths: tuple[Truth, ...], size: tuple[int, int], config: Config
) -> YolactTargets:
    """The targets of a batch. size: (height, width) of the padded input. The targets do not depend on the output."""
    sizes, classes = level_sizes(*size, config.model.geometry.strides), max(len(config.model.classes), 1)
    anchors = make_anchors(sizes, truths[0].boxes.device)
    large, small = (2 * sizes[0][0], 2 * sizes[0][1]), sizes[0]
    labels, indices, masks, semantic = [], [], [], []
    first = 0
    for truth in truths:
        index = match_anchors(anchors, truth.boxes)
        names = torch.cat((truth.labels, truth.labels.new_tensor([IGNORED, classes])))  # index −2 and index −1
        labels.append(names[index])
        indices.append(torch.where(index >= 0, index + first, -1))
        parts = [(_shrink(part, large), _shrink(part, small)) for part in _masks(truth, size)]
        masks += [part for part, _ in parts]
        semantic.append(_semantic(truth, torch.cat([part for _, part in parts]), classes))
        first += len(truth.labels)
    return YolactTargets(
        labels=torch.stack(labels),
        instance_index=torch.stack(indices),
        boxes=torch.cat([truth.boxes for truth in truths]),
        has_mask=torch.cat([truth.has_mask for truth in truths]),
        masks=torch.cat(masks),
        semantic=torch.stack(semantic),
        drawn=torch.stack([truth.has_mask.any() for truth in truths]),
    )


def match_anchors(anchors: Tensor, boxes: Tensor) -> Tensor:
    """The instance of each anchor: (L,) int64, −1 for background, −2 for anchors that are ignored.

    anchors: (L, 4). boxes: (M, 4). An anchor learns the instance with the best IoU if this is POSITIVE or more, it is
    background below NEGATIVE, and it is ignored in between. Then each instance in turn takes the anchor with the best
    IoU for it, whatever this is and whoever has the anchor. Of equal values, the first counts.
    """
    if not len(boxes):
        return torch.full((len(anchors),), -1, dtype=torch.int64, device=anchors.device)
    intersection, union = intersection_and_union(boxes[:, None], anchors)
    overlap = intersection / union.clamp(min=1e-6)  # (M, L)
    best, index = overlap.max(dim=0)
    index = torch.where(best >= POSITIVE, index, torch.where(best < NEGATIVE, -1, -2))
    for instance, anchor in enumerate(overlap.argmax(dim=1).tolist()):
        index[anchor] = instance
    return index


def _masks(truth: Truth, size: tuple[int, int]) -> Iterator[Tensor]:
    """The masks (m, H, W) bool of an image, some at a time. Without any, there is one part with m = 0."""
    everyone = torch.arange(len(truth.labels), device=truth.labels.device)
    for part in everyone.split(max(PIXELS_AT_ONCE // (size[0] * size[1]), 1)):  # type: ignore[no-untyped-call]
        yield unpack(truth.mask_pixels, truth.mask_places, part, size)


def _shrink(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks (m, H, W) bool → (m, *size) bool, by bilinear interpolation."""
    if not len(masks):
        return masks.new_zeros(0, *size)
    return F.interpolate(masks[:, None].float(), size, mode="bilinear", align_corners=False)[:, 0] > 0.5


def _semantic(truth: Truth, masks: Tensor, classes: int) -> Tensor:
    """(C, h, w) bool, from all masks (M, h, w) of an image."""
    semantic = masks.new_zeros(classes, *masks.shape[1:])
    for mask, label in zip(masks[truth.has_mask], truth.labels[truth.has_mask].tolist(), strict=True):
        semantic[(label - 1) % classes] |= mask
    return semantic


def count_anchors(targets: YolactTargets, config: Config) -> Counts:
    """The divisors of the losses. An image without a positive counts as one with a single positive."""
    index = targets.instance_index
    positives = (index >= 0).sum(dim=1)
    drawn = _with_mask(targets).sum(dim=1).clamp(max=config.targets.max_mask_positives)
    pixels = index.new_tensor(len(index) * targets.semantic[0, 0].numel())
    return Counts(positives.clamp(min=1).sum().float(), positives.new_zeros(()).float(), drawn.sum(), pixels)


def _with_mask(targets: YolactTargets) -> Tensor:
    """(N, L) bool: the positives whose instance has a mask."""
    if not len(targets.has_mask):
        return targets.instance_index >= 0
    return (targets.instance_index >= 0) & targets.has_mask[targets.instance_index.clamp(min=0)]


def choose_anchors(targets: YolactTargets, image: int, most: int, generator: torch.Generator | None) -> Tensor:
    """The positives (k,) int64 of an image whose masks are trained: at most `most` of those with a mask, at random.

    generator: on the CPU. It is used only if there are more than `most`.
    """
    rows = _with_mask(targets)[image].nonzero()[:, 0]
    if len(rows) <= most:
        return rows
    return rows[torch.randperm(len(rows), generator=generator)[:most].to(rows.device)]


def needs_no_output(config: Config) -> bool:
    """Return that the targets do not depend on the output of the network."""
    return False

"""The training losses, from the output of the network and the targets (paper §3.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from condinst.ops import losses
from condinst.ops.bitmaps.packed_masks import unpack
from condinst.ops.dynamic_mask_head import dynamic_mask_head
from condinst.ops.locations import all_locations, flatten_levels, of_each_location
from condinst.settings.model import ModelConfig
from condinst.settings.training import LossConfig
from condinst.structures import (
    ColourPairs,
    FilterLayout,
    Losses,
    NetworkOutput,
    Norms,
    PositiveMasks,
    Positives,
    Targets,
)
from condinst.training.boxinst import pairwise_loss


def draw_masks(
    output: NetworkOutput,
    targets: Targets,
    positives: Positives,
    layout: FilterLayout,
    model: ModelConfig,
) -> PositiveMasks:
    """Predict the masks of the given positives with the dynamic mask head."""
    locations = all_locations(output.head.class_logits, model.geometry)
    scales = of_each_location(output.head.class_logits, model.coordinate_scales)
    logits = dynamic_mask_head(
        output.mask_features.float(),
        flatten_levels(output.head.filters)[positives].float(),
        positives.image_index,
        locations[positives.location_index],
        scales[positives.location_index],
        layout,
        model.coordinates,
        model.mask_head.mask_out_stride,
        model.geometry,
    )
    return PositiveMasks(logits.float(), positives.image_index, targets.instance_index[positives])


def objective(
    output: NetworkOutput,
    targets: Targets,
    norms: Norms,
    masks: PositiveMasks,
    pairs: ColourPairs | None,
    config: LossConfig,
) -> Losses:
    """The weighted terms of the training loss (paper §3.3).

    norms: the divisors, averaged over all processes. masks: the predicted masks of the chosen positives. pairs: pairs
    of pixels with similar colours; None if every instance has a mask.
    """
    mask, projection, pairwise = _masks(masks, targets, pairs, config)
    return location_losses(output, targets, norms, config)._replace(
        mask=config.mask_weight * mask,
        projection=config.projection_weight * projection,
        pairwise=config.pairwise_weight * pairwise,
        semantic=config.semantic_weight * _semantic(output, targets),
    )


def location_losses(output: NetworkOutput, targets: Targets, norms: Norms, config: LossConfig) -> Losses:
    """The weighted terms of classes, boxes and quality. The other terms are 0."""
    positives = Positives(*(targets.instance_index >= 0).nonzero(as_tuple=True))
    head = output.head
    predicted = flatten_levels(head.distances_in_strides)[positives].float()
    wanted = targets.distances_in_strides[positives]
    quality, box_weight = _quality_target(config, predicted, wanted, targets.quality[positives])
    divisor = _divisors(norms, config)
    none = predicted.new_zeros(())
    return Losses(
        classification=config.classification_weight * _classification(output, targets, config) / divisor.classification,
        box=config.box_weight * (_box(config, predicted, wanted) * box_weight).sum() / divisor.box,
        quality=config.quality_weight * _quality(output, positives, quality) / norms.positives.clamp(min=1),
        mask=none,
        projection=none,
        pairwise=none,
        semantic=none,
    )


class _Divisors(NamedTuple):
    """What the sums over locations are divided by."""

    classification: Tensor
    box: Tensor


def _divisors(norms: Norms, config: LossConfig) -> _Divisors:
    positives = norms.positives.clamp(min=1)
    if config.classification == "quality_focal":  # RTMDet-Ins divides both by the sum of the qualities
        return _Divisors(norms.quality.clamp(min=1), norms.quality.clamp(min=1))
    return _Divisors(positives, norms.quality.clamp(min=1e-6) if config.quality == "centerness" else positives)


def _classification(output: NetworkOutput, targets: Targets, config: LossConfig) -> Tensor:
    loss = {
        "focal": losses.focal,
        "cross_entropy": losses.cross_entropy,
        "quality_focal": losses.quality_focal,
    }[config.classification]

    def summed(logits: Tensor, labels: Tensor) -> Tensor:
        wanted = F.one_hot(labels, logits.shape[-1] + 1)[..., :-1].to(logits.dtype)
        if config.classification == "quality_focal":
            wanted = wanted * targets.quality[..., None]
        return loss(logits, wanted).sum()

    return _made_again(summed, flatten_levels(output.head.class_logits).float(), targets.labels)


def _quality(output: NetworkOutput, positives: Positives, wanted: Tensor) -> Tensor:
    """The summed loss of the centerness output, 0 for a head without it. wanted: (K,)."""
    maps = output.head.centerness_logits
    if not maps:
        return wanted.new_zeros(())
    return losses.cross_entropy(flatten_levels(maps)[positives].float()[:, 0], wanted).sum()


def _quality_target(config: LossConfig, predicted: Tensor, wanted: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
    """The target of the centerness output (K,), and the weight of each positive's box loss (K,).

    quality: (K,), the quality of the positives in `Targets`.
    """
    if config.quality == "centerness" or config.classification == "quality_focal":
        return quality, quality
    overlap = losses.box_overlap(predicted.detach(), wanted)[0]
    return overlap, torch.ones_like(overlap)


def _box(config: LossConfig, predicted: Tensor, wanted: Tensor) -> Tensor:
    loss = {
        "giou": losses.giou_loss,
        "plain_giou": losses.plain_giou_loss,
        "clamped_giou": losses.clamped_giou_loss,
        "iou": losses.iou_loss,
        "smooth_l1": losses.smooth_l1_loss,
    }[config.box]
    return loss(predicted, wanted)


def _masks(
    masks: PositiveMasks, targets: Targets, pairs: ColourPairs | None, config: LossConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """The terms mask, projection and pairwise.

    The mask term sums over the positives with an annotated mask, the projection term over those without one. Both are
    divided by the number of all positives. The pairwise term is the mean over the pairs, times the share of positives
    without a mask. With masks alone, and with boxes alone, these are the published formulas.
    """
    boxed = ~targets.has_mask[masks.instance_index]
    count = max(len(boxed), 1)
    truth, boxes = (_truth(targets, masks, which) for which in (~boxed, boxed))
    logits = masks.logits[boxed]
    mask = _mask(masks.logits[~boxed], truth, config).sum() / count
    projection = losses.projection_loss(logits, boxes).sum() / count
    if pairs is None:
        return mask, projection, logits.new_zeros(())
    pairwise = pairwise_loss(logits, boxes, masks.image_index[boxed], pairs) * (len(boxes) / count)
    return mask, projection, pairwise


def _truth(targets: Targets, masks: PositiveMasks, which: Tensor) -> Tensor:
    """The true masks of the positives where `which` (K,) is True. Others stay packed, because a batch may have many."""
    height, width = masks.logits.shape[1:]
    return unpack(targets.mask_pixels, targets.mask_places, masks.instance_index[which], (height, width))


def _mask(logits: Tensor, truth: Tensor, config: LossConfig) -> Tensor:
    dice, crossed = losses.dice_loss, losses.mask_cross_entropy
    inside = losses.box_cross_entropy
    terms = {"dice": (dice,), "bce": (crossed,), "both": (dice, crossed), "box_bce": (inside,)}[config.mask]
    return torch.stack([_made_again(term, logits, truth) for term in terms]).sum(dim=0)


def _made_again(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, truth: Tensor) -> Tensor:
    """`loss(logits, truth)`, computed again in the backward pass instead of keeping its intermediate tensors.

    These tensors are large: each has the size of all locations and classes, or of all masks. Their computation is cheap
    beside the network.
    """
    made: Tensor = checkpoint(loss, logits, truth, use_reentrant=False, preserve_rng_state=False)
    return made


def _semantic(output: NetworkOutput, targets: Targets) -> Tensor:
    logits = output.semantic_logits
    if logits is None:
        return output.mask_features.new_zeros(())
    classes = logits.shape[1]
    labels = torch.where(targets.semantic < 0, classes, targets.semantic)
    one_hot = F.one_hot(labels, classes + 1)[..., :-1].permute(0, 3, 1, 2).to(logits.dtype)
    return losses.focal(logits, one_hot).sum() / one_hot.sum().clamp(min=1)

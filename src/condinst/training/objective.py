"""The training losses, from the output of the network and the targets (paper §3.3)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from condinst.ops import losses
from condinst.ops.bitmaps.packed_masks import unpack
from condinst.ops.dynamic_mask_head import dynamic_mask_head
from condinst.ops.locations import flatten_levels, level_locations
from condinst.settings.model import MaskHeadConfig
from condinst.settings.training import LossConfig
from condinst.structures import (
    STRIDES,
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
    mask_head: MaskHeadConfig,
    coordinate_scales: tuple[float, ...],
) -> PositiveMasks:
    """Predict the masks of the given positives with the dynamic mask head.

    coordinate_scales: the divisor of relative coordinates for each of P3…P7, in pixels.
    """
    locations, scales = _places(output, coordinate_scales)
    logits = dynamic_mask_head(
        output.mask_features.float(),
        flatten_levels(output.head.filters)[positives].float(),
        positives.image_index,
        locations[positives.location_index],
        scales[positives.location_index],
        layout,
        mask_head.coordinates,
        mask_head.mask_out_stride,
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
    positives = Positives(*(targets.instance_index >= 0).nonzero(as_tuple=True))
    head = output.head
    predicted = flatten_levels(head.distances_in_strides)[positives].float()
    wanted = targets.distances_in_strides[positives]
    quality, box_weight = _quality_target(config, predicted, wanted, targets.centerness[positives])
    box_norm = norms.centerness.clamp(min=1e-6) if config.quality == "centerness" else norms.positives.clamp(min=1)
    positive_norm = norms.positives.clamp(min=1)
    quality_logits = flatten_levels(head.centerness_logits)[positives].float()[:, 0]
    mask, projection, pairwise = _masks(masks, targets, pairs, config)
    return Losses(
        classification=config.classification_weight * _classification(output, targets, config) / positive_norm,
        box=config.box_weight * (_box(config, predicted, wanted) * box_weight).sum() / box_norm,
        quality=config.quality_weight * losses.cross_entropy(quality_logits, quality).sum() / positive_norm,
        mask=config.mask_weight * mask,
        projection=config.projection_weight * projection,
        pairwise=config.pairwise_weight * pairwise,
        semantic=config.semantic_weight * _semantic(output, targets),
    )


def _classification(output: NetworkOutput, targets: Targets, config: LossConfig) -> Tensor:
    loss = losses.focal if config.classification == "focal" else losses.cross_entropy

    def summed(logits: Tensor, labels: Tensor) -> Tensor:
        one_hot = F.one_hot(labels, logits.shape[-1] + 1)[..., :-1].to(logits.dtype)
        return loss(logits, one_hot).sum()

    return _made_again(summed, flatten_levels(output.head.class_logits).float(), targets.labels)


def _quality_target(config: LossConfig, predicted: Tensor, wanted: Tensor, centerness: Tensor) -> tuple[Tensor, Tensor]:
    """The target of the centerness output (K,), and the weight of each positive's box loss (K,)."""
    if config.quality == "centerness":
        return centerness, centerness
    overlap = losses.box_overlap(predicted.detach(), wanted)[0]
    return overlap, torch.ones_like(overlap)


def _box(config: LossConfig, predicted: Tensor, wanted: Tensor) -> Tensor:
    loss = {
        "giou": losses.giou_loss,
        "plain_giou": losses.plain_giou_loss,
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
    terms = {"dice": (dice,), "bce": (crossed,), "both": (dice, crossed)}[config.mask]
    return torch.stack([_made_again(term, logits, truth) for term in terms]).sum(dim=0)


def _made_again(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, truth: Tensor) -> Tensor:
    """`loss(logits, truth)`, computed again in the backward pass instead of keeping its intermediate tensors.

    These tensors are large: each has the size of all locations and classes, or of all masks. Their computation is cheap
    beside the network.
    """
    made: Tensor = checkpoint(loss, logits, truth, use_reentrant=False, preserve_rng_state=False)
    return made


def _places(output: NetworkOutput, coordinate_scales: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """The position (L, 2) and the coordinate scale (L,) of each location, in pixels of the padded input."""
    maps = output.head.class_logits
    grids = [level_locations(m.shape[-2], m.shape[-1], s, m.device) for m, s in zip(maps, STRIDES, strict=True)]
    scales = [grid.new_full((len(grid),), scale) for grid, scale in zip(grids, coordinate_scales, strict=True)]
    return torch.cat(grids), torch.cat(scales)


def _semantic(output: NetworkOutput, targets: Targets) -> Tensor:
    logits = output.semantic_logits
    if logits is None:
        return output.mask_features.new_zeros(())
    classes = logits.shape[1]
    labels = torch.where(targets.semantic < 0, classes, targets.semantic)
    one_hot = F.one_hot(labels, classes + 1)[..., :-1].permute(0, 3, 1, 2).to(logits.dtype)
    return losses.focal(logits, one_hot).sum() / one_hot.sum().clamp(min=1)

"""NetworkOutput + Targets → the named losses (spec §3)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from condinst.config import LossConfig, MaskHeadConfig
from condinst.ops import losses
from condinst.ops.dynamic_mask_head import dynamic_mask_head
from condinst.ops.locations import flatten_levels, level_locations
from condinst.structures import STRIDES, FilterLayout, Losses, NetworkOutput, Norms, Targets


class Positives(NamedTuple):
    """Where the positive locations of a batch are. image_index, location_index: (P,) int64 into (N, L)."""

    image_index: Tensor
    location_index: Tensor


def objective(
    output: NetworkOutput,
    targets: Targets,
    norms: Norms,
    config: LossConfig,
    layout: FilterLayout,
    mask_head: MaskHeadConfig,
    coordinate_scales: tuple[float, ...],
    max_mask_positives: int,
    generator: torch.Generator | None = None,
) -> Losses:
    """The weighted terms of the loss. Sums are divided by `norms`, so no term knows about other processes."""
    positives = Positives(*(targets.instance_index >= 0).nonzero(as_tuple=True))
    head = output.head
    predicted = flatten_levels(head.distances_in_strides)[positives].float()
    wanted = targets.distances_in_strides[positives]
    quality, box_weight = _quality_target(config, predicted, wanted, targets.centerness[positives])
    box_norm = norms.centerness.clamp(min=1e-6) if config.quality == "centerness" else norms.positives.clamp(min=1)
    positive_norm = norms.positives.clamp(min=1)
    quality_logits = flatten_levels(head.centerness_logits)[positives].float()[:, 0]
    return Losses(
        classification=config.classification_weight * _classification(output, targets, config) / positive_norm,
        box=config.box_weight * (_box(config, predicted, wanted) * box_weight).sum() / box_norm,
        quality=config.quality_weight * losses.cross_entropy(quality_logits, quality).sum() / positive_norm,
        mask=config.mask_weight
        * _mask(
            output,
            targets,
            _draw(positives, max_mask_positives, generator),
            config,
            layout,
            mask_head,
            coordinate_scales,
        ),
        semantic=config.semantic_weight * _semantic(output, targets),
    )


def _classification(output: NetworkOutput, targets: Targets, config: LossConfig) -> Tensor:
    logits = flatten_levels(output.head.class_logits).float()
    one_hot = F.one_hot(targets.labels, logits.shape[-1] + 1)[..., :-1].to(logits.dtype)
    loss = losses.focal if config.classification == "focal" else losses.cross_entropy
    return loss(logits, one_hot).sum()


def _quality_target(config: LossConfig, predicted: Tensor, wanted: Tensor, centerness: Tensor) -> tuple[Tensor, Tensor]:
    """What the quality logit should say, and the weight of each positive's box loss."""
    if config.quality == "centerness":
        return centerness, centerness
    overlap = losses.box_overlap(predicted.detach(), wanted)[0]
    return overlap, torch.ones_like(overlap)


def _box(config: LossConfig, predicted: Tensor, wanted: Tensor) -> Tensor:
    loss = {"giou": losses.giou_loss, "iou": losses.iou_loss, "smooth_l1": losses.smooth_l1_loss}[config.box]
    return loss(predicted, wanted)


def _draw(positives: Positives, most: int, generator: torch.Generator | None) -> Positives:
    """At most `most` of the positives, at random."""
    count = len(positives.image_index)
    if count <= most:
        return positives
    kept = torch.randperm(count, generator=generator)[:most].to(positives.image_index.device)
    return Positives(positives.image_index[kept], positives.location_index[kept])


def _mask(
    output: NetworkOutput,
    targets: Targets,
    positives: Positives,
    config: LossConfig,
    layout: FilterLayout,
    mask_head: MaskHeadConfig,
    coordinate_scales: tuple[float, ...],
) -> Tensor:
    """Mean over the positives given."""
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
    truth = targets.masks[targets.instance_index[positives]]
    total = logits.new_zeros(())
    if config.mask != "bce":
        total = total + losses.dice_loss(logits, truth).sum()
    if config.mask != "dice":
        total = total + losses.mask_cross_entropy(logits, truth).sum()
    return total / max(len(logits), 1)


def _places(output: NetworkOutput, coordinate_scales: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Pixel position (L, 2) and coordinate scale (L,) of every location."""
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

"""The losses of CondInst for one step, whose batch may come in several parts and be shared by processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from condinst.config import Config
from condinst.data.batch import Batch
from condinst.errors import UsageError
from condinst.model.condinst import filter_layout
from condinst.ops.locations import level_sizes
from condinst.structures import NetworkOutput, Norms, Targets
from condinst.training.boxinst import find_pairs
from condinst.training.objective import draw_masks, objective
from condinst.training.sampling import choose_positives, count_positives
from condinst.training.targets import assign, measure_norms

NORM_OF_ONE = "more than 1 value per channel"  # how torch says that a norm cannot learn its statistics


class Part(NamedTuple):
    """A batch ready for the network: one of those whose gradients make a step.

    norms: means over all parts and processes. mask_share, semantic_share: what the mask terms and the semantic one,
    each a mean over this part alone, weigh in the step of all processes; 1 where that has one part.
    """

    batch: Batch
    targets: Targets
    norms: Norms
    mask_share: Tensor
    semantic_share: Tensor


def prepare(batches: Sequence[Batch], config: Config, accelerator: Accelerator) -> list[Part]:
    """The parts of one step. Their losses' mean is the loss of one batch that holds all their pictures."""
    targets = [assign_batch(batch, config) for batch in batches]
    norms = torch.stack([torch.stack(measure_norms(one)) for one in targets]).mean(dim=0)
    positives, centerness = accelerator.reduce(norms, "mean")
    sampling, most = config.targets.mask_sampling, config.targets.max_mask_positives
    masks = _shares([count_positives(one, sampling, most) for one in targets], accelerator)
    semantic = _shares([(one.semantic >= 0).sum() for one in targets], accelerator)
    return [
        Part(batch, one, Norms(positives, centerness), mask_share, semantic_share)
        for batch, one, mask_share, semantic_share in zip(batches, targets, masks, semantic, strict=True)
    ]


def _shares(counts: list[Tensor], accelerator: Accelerator) -> list[Tensor]:
    """Each part's divisor over what it would be for the whole step, per part; neither is ever less than one."""
    parts = len(counts) * accelerator.num_processes
    if parts == 1:
        return [torch.ones_like(counts[0], dtype=torch.float32)]
    stacked = torch.stack(counts).float()
    total: Tensor = accelerator.reduce(stacked.sum(), "sum")
    return list((stacked.clamp(min=1) / (total.clamp(min=1) / parts)).unbind())


def assign_batch(batch: Batch, config: Config) -> Targets:
    """The targets of a batch."""
    height, width = batch.images.tensor.shape[-2:]
    return assign(
        batch.truths,
        level_sizes(height, width),
        config.model.size_ranges,
        max(len(config.model.classes), 1),
        config.targets.center_radius,
    )


def _forward(model: nn.Module, images: Tensor) -> NetworkOutput:
    try:
        output: NetworkOutput = model(images)
    except ValueError as error:
        if NORM_OF_ONE not in str(error):
            raise
        height, width = images.shape[-2:]
        raise UsageError(
            f"train.batch_size={len(images)}: a picture of {width}×{height} px alone is one pixel on a level whose "
            "norms need two; take more pictures in a batch, or a larger augment.crop or augment.shorter"
        ) from None
    return output


def condinst_losses(
    model: nn.Module, part: Part, generator: torch.Generator, iteration: int, config: Config
) -> Mapping[str, Tensor]:
    """One forward pass and the named losses."""
    output = _forward(model, part.batch.images.tensor)
    settings, targets = config.model, part.targets
    chosen = choose_positives(
        output.head, targets, config.targets.mask_sampling, config.targets.max_mask_positives, generator
    )
    masks = draw_masks(output, targets, chosen, filter_layout(settings), settings.mask_head, settings.coordinate_scales)
    pairs = None if targets.has_mask.all() else find_pairs(part.batch.images, settings, config.box_supervision)
    losses = objective(output, targets, part.norms, masks, pairs, config.loss)
    warm = min((iteration + 1) / max(config.box_supervision.warmup_iterations, 1), 1)
    return losses._replace(
        mask=part.mask_share * losses.mask,
        projection=part.mask_share * losses.projection,
        pairwise=part.mask_share * warm * losses.pairwise,
        semantic=part.semantic_share * losses.semantic,
    )._asdict()

"""The losses of CondInst for one step. The batch may have several parts and be split over processes."""

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

NORM_OF_ONE = "more than 1 value per channel"  # part of torch's message for a norm that cannot learn its statistics


class Part(NamedTuple):
    """A batch ready for the network. Its gradients are part of a step.

    norms: means over all parts and processes. mask_share, semantic_share: weights of the mask losses and the semantic
    loss in the step of all processes; each loss is a mean over this part only. The weights are 1 for a single part.
    """

    batch: Batch
    targets: Targets
    norms: Norms
    mask_share: Tensor
    semantic_share: Tensor


def prepare(batches: Sequence[Batch], config: Config, accelerator: Accelerator) -> list[Part]:
    """Return the parts of one step. The mean of their losses equals the loss of one batch with all pictures."""
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
    """Return each part's divisor over the divisor of the whole step per part. No divisor is less than one."""
    parts = len(counts) * accelerator.num_processes
    if parts == 1:
        return [torch.ones_like(counts[0], dtype=torch.float32)]
    stacked = torch.stack(counts).float()
    total: Tensor = accelerator.reduce(stacked.sum(), "sum")
    return list((stacked.clamp(min=1) / (total.clamp(min=1) / parts)).unbind())


def assign_batch(batch: Batch, config: Config) -> Targets:
    """Return the targets of a batch."""
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
            f"train.batch_size={len(images)}: a picture of {width}×{height} px gives one pixel on the coarsest "
            "pyramid level, but its norms need two; increase train.batch_size, augment.crop or augment.shorter"
        ) from None
    return output


def condinst_losses(
    model: nn.Module, part: Part, generator: torch.Generator, iteration: int, config: Config
) -> Mapping[str, Tensor]:
    """Run one forward pass and return the named losses."""
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

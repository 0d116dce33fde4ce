"""From the output of the network to the losses of one batch (paper §3.3)."""

from __future__ import annotations

import torch

from condinst.config import Config
from condinst.model.condinst import filter_layout
from condinst.ops.locations import level_sizes
from condinst.structures import Counts, Images, Losses, NetworkOutput, Norms, Targets, Truth
from condinst.training.boxinst import find_pairs
from condinst.training.dynamic_targets import assign_dynamic
from condinst.training.objective import draw_masks, objective
from condinst.training.sampling import choose_positives, count_positives
from condinst.training.targets import assign, measure_norms


def needs_output(config: Config) -> bool:
    """Return whether the targets depend on the output of the network."""
    return config.targets.assigner == "dynamic"


def assign_batch(
    output: NetworkOutput | None, truths: tuple[Truth, ...], size: tuple[int, int], config: Config
) -> Targets:
    """The targets of a batch. size: (height, width) of the padded input. output: None for the FCOS assigner."""
    model, settings, classes = config.model, config.targets, max(len(config.model.classes), 1)
    if needs_output(config):
        assert output is not None
        return assign_dynamic(
            output, truths, model.geometry, classes, settings.dynamic_radius, settings.dynamic_candidates
        )
    sizes = level_sizes(*size, model.geometry.strides)
    return assign(truths, sizes, model.size_ranges, classes, settings.center_radius)


def count_targets(targets: Targets, config: Config) -> Counts:
    """The divisors of the losses."""
    norms = measure_norms(targets)
    masks = count_positives(targets, config.targets.mask_sampling, config.targets.max_mask_positives)
    return Counts(norms.positives, norms.quality, masks, (targets.semantic >= 0).sum())


def batch_losses(
    output: NetworkOutput,
    targets: Targets,
    norms: Norms,
    images: Images,
    config: Config,
    iteration: int,
    generator: torch.Generator,
) -> Losses:
    """The weighted terms of the loss of one batch.

    norms: the divisors, averaged over all processes. iteration: from 0, for the warm-up of the pairwise loss.
    generator: draws the positives whose masks are trained.
    """
    settings, model = config.targets, config.model
    chosen = choose_positives(output.head, targets, settings.mask_sampling, settings.max_mask_positives, generator)
    masks = draw_masks(output, targets, chosen, filter_layout(model), model)
    pairs = None if targets.has_mask.all() else find_pairs(images, model, config.box_supervision)
    losses = objective(output, targets, norms, masks, pairs, config.loss)
    warm = min((iteration + 1) / max(config.box_supervision.warmup_iterations, 1), 1)
    return losses._replace(pairwise=warm * losses.pairwise)

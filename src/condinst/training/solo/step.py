"""From the output of a network of the SOLO family to the losses of one batch (arXiv 1912.04488, §3.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from condinst.config import Config
from condinst.model.heads.solo.output import CellMasks, SoloOutput
from condinst.ops.locations import flatten_levels
from condinst.ops.losses import focal, soft_dice
from condinst.settings.model import ModelConfig
from condinst.structures import Counts, Images, Losses, Norms, Truth
from condinst.training.solo.targets import Level, LevelTargets, SoloTargets, assign_cells

MASK_STRIDES = (4, 4, 8, 16, 16)  # of the mask maps of SOLO and Decoupled SOLO; those of SOLOv2 have stride 4
NUMBERS_AT_ONCE = 2**23  # mask probabilities that the backward pass holds at a time: 32 MiB


def needs_output(config: Config) -> bool:
    """Return whether the targets depend on the output of the network. They do not."""
    return False


def assign_last(
    output: SoloOutput | None, truths: tuple[Truth, ...], size: tuple[int, int], config: Config
) -> SoloTargets:
    """The targets of SOLO and Decoupled SOLO: of several objects, a cell learns the last one."""
    return _assign(truths, size, config, MASK_STRIDES, repeated=False)


def assign_all(
    output: SoloOutput | None, truths: tuple[Truth, ...], size: tuple[int, int], config: Config
) -> SoloTargets:
    """The targets of SOLOv2: a cell learns the masks of all its objects, and the class of the last one."""
    strides = (config.model.geometry.mask_stride,) * len(MASK_STRIDES)
    return _assign(truths, size, config, strides, repeated=True)


def _assign(
    truths: tuple[Truth, ...], size: tuple[int, int], config: Config, strides: tuple[int, ...], repeated: bool
) -> SoloTargets:
    model = config.model
    rows = zip(model.solo.grids, model.size_ranges, strides, strict=True)
    levels = [Level(grid, *sizes, stride) for grid, sizes, stride in rows]
    return assign_cells(truths, size, levels, count_classes(model), config.targets.center_part, repeated)


def count_classes(model: ModelConfig) -> int:
    """C, at least 1."""
    return max(len(model.classes), 1)


def count_cells(targets: SoloTargets, config: Config) -> Counts:
    """The divisors of the losses: the number of positive cells, also where a cell learns several masks.

    The mask loss is divided by it, too, so all parts of a step have the same share in it.
    """
    positives = (targets.labels < count_classes(config.model)).sum().float()
    one = torch.ones_like(positives)
    return Counts(positives, torch.zeros_like(positives), one, one)


def cell_losses(
    output: SoloOutput,
    targets: SoloTargets,
    norms: Norms,
    images: Images,
    config: Config,
    iteration: int,
    generator: torch.Generator,
) -> Losses:
    """The weighted terms of the loss of one batch. norms: the divisors, averaged over all processes.

    As published, the divisor of the classes is one more than the number of positive cells.
    """
    logits = flatten_levels(output.class_logits).float()
    wanted = F.one_hot(targets.labels, logits.shape[2] + 1)[..., :-1].to(logits.dtype)
    classification = focal(logits, wanted).sum() / (norms.positives + 1)
    mask = mask_losses(output.masks, targets, len(logits)).sum() / norms.positives.clamp(min=1)
    zero = classification.new_zeros(())
    return Losses(
        classification=config.loss.classification_weight * classification,
        box=zero,
        quality=zero,
        mask=config.loss.mask_weight * mask,
        projection=zero,
        pairwise=zero,
        semantic=zero,
    )


def mask_losses(masks: CellMasks, targets: SoloTargets, images: int) -> Tensor:
    """The dice loss of each positive of a batch of `images`: (P,), level by level and image by image.

    The backward pass draws the masks again, some at a time, so the memory does not grow with their number. An image
    without positives takes part with none, so that each parameter has a gradient.
    """
    losses = []
    for level, wanted in enumerate(targets.levels):
        at_once = max(NUMBERS_AT_ONCE // max(wanted.bitmaps[0].numel() if len(wanted.bitmaps) else 1, 1), 1)
        for image in range(images):
            mine = (wanted.images == image).nonzero()[:, 0]
            for rows in torch.split(mine, at_once):
                work = (masks, level, image, wanted, rows)
                dice: Tensor = checkpoint(_dice, *work, use_reentrant=False, preserve_rng_state=False)
                losses.append(dice)
    return torch.cat(losses)


def _dice(masks: CellMasks, level: int, image: int, wanted: LevelTargets, rows: Tensor) -> Tensor:
    return soft_dice(masks.probabilities(level, image, wanted.cells[rows]), wanted.bitmaps[wanted.masks[rows]])

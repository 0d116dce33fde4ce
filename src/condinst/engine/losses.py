"""The losses of one step. The batch may have several parts and be split over processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from condinst.config import Config
from condinst.data.batch import Batch
from condinst.errors import UsageError
from condinst.methods.choose import method_of
from condinst.structures import Norms

NORM_OF_ONE = "more than 1 value per channel"  # part of torch's message for a norm that cannot learn its statistics


class Part(NamedTuple):
    """A batch ready for the network. Its gradients are part of a step.

    goal: what the part learns. None if the targets depend on the output of the network.
    """

    batch: Batch
    goal: Goal | None


class Goal(NamedTuple):
    """What a part learns.

    targets: of the method. norms: means over all parts and processes. mask_share, semantic_share: weights of the mask
    losses and the semantic loss in the step of all processes; each loss is a mean over this part only. The weights are
    1 for a single part.
    """

    targets: Any
    norms: Norms
    mask_share: Tensor
    semantic_share: Tensor


def prepare(batches: Sequence[Batch], config: Config, accelerator: Accelerator) -> list[Part]:
    """Return the parts of one step. The mean of their losses equals the loss of one batch with all pictures.

    Where targets depend on the output of the network, each part has divisors of its own.
    """
    if method_of(config.model).needs_output(config):
        return [Part(batch, None) for batch in batches]
    targets = [assign(None, batch, config) for batch in batches]
    return [Part(batch, goal) for batch, goal in zip(batches, _goals(targets, config, accelerator), strict=True)]


def assign(output: Any, batch: Batch, config: Config) -> Any:
    """Return the targets of a batch. output: None for targets that do not depend on the output of the network."""
    height, width = batch.images.tensor.shape[-2:]
    return method_of(config.model).assign(output, batch.truths, (height, width), config)


def _goals(targets: list[Any], config: Config, accelerator: Accelerator) -> list[Goal]:
    """Return what each part learns, with the divisors of all parts and processes."""
    counts = [method_of(config.model).count(one, config) for one in targets]
    norms = torch.stack([torch.stack((one.positives, one.quality)) for one in counts]).mean(dim=0)
    positives, quality = accelerator.reduce(norms, "mean")
    masks = _shares([one.masks for one in counts], accelerator)
    semantic = _shares([one.semantic for one in counts], accelerator)
    return [
        Goal(one, Norms(positives, quality), mask_share, semantic_share)
        for one, mask_share, semantic_share in zip(targets, masks, semantic, strict=True)
    ]


def _shares(counts: list[Tensor], accelerator: Accelerator) -> list[Tensor]:
    """Return each part's divisor over the divisor of the whole step per part. No divisor is less than one."""
    parts = len(counts) * accelerator.num_processes
    if parts == 1:
        return [torch.ones_like(counts[0], dtype=torch.float32)]
    stacked = torch.stack(counts).float()
    total: Tensor = accelerator.reduce(stacked.sum(), "sum")
    return list((stacked.clamp(min=1) / (total.clamp(min=1) / parts)).unbind())


def forward(model: nn.Module, images: Tensor) -> Any:
    """Run the network. Raises UsageError for a picture that is too small for its norms."""
    try:
        output = model(images)
    except ValueError as error:
        if NORM_OF_ONE not in str(error):
            raise
        height, width = images.shape[-2:]
        raise UsageError(
            f"train.batch_size={len(images)}: a picture of {width}×{height} px gives one pixel on the coarsest "
            "pyramid level, but its norms need two; increase train.batch_size, augment.crop or augment.shorter"
        ) from None
    return output


def step_losses(
    model: nn.Module,
    part: Part,
    generator: torch.Generator,
    iteration: int,
    config: Config,
    accelerator: Accelerator,
) -> Mapping[str, Tensor]:
    """Run one forward pass and return the named losses."""
    output = forward(model, part.batch.images.tensor)
    goal = part.goal
    if goal is None:
        (goal,) = _goals([assign(output, part.batch, config)], config, accelerator)
    return losses_of(output, goal, part.batch, generator, iteration, config)


def losses_of(
    output: Any, goal: Goal, batch: Batch, generator: torch.Generator, iteration: int, config: Config
) -> Mapping[str, Tensor]:
    """Return the named losses of a batch with its share in the step."""
    method = method_of(config.model)
    losses = method.objective(output, goal.targets, goal.norms, batch.images, config, iteration, generator)
    return losses._replace(
        mask=goal.mask_share * losses.mask,
        projection=goal.mask_share * losses.projection,
        pairwise=goal.mask_share * losses.pairwise,
        semantic=goal.semantic_share * losses.semantic,
    )._asdict()

"""The losses of MEInst (arXiv 2003.11712)."""

from __future__ import annotations

import torch
from torch import Tensor

from condinst.config import Config
from condinst.ops.locations import flatten_levels
from condinst.ops.losses import cross_entropy
from condinst.ops.mask_code import decode_logits, encode, soft_logits
from condinst.structures import Images, Losses, MaskCode, NetworkOutput, Norms, Truth
from condinst.training.boxed.targets import BoxedTargets, assign_boxed
from condinst.training.objective import location_losses


def assign_batch(
    output: NetworkOutput | None, truths: tuple[Truth, ...], size: tuple[int, int], config: Config
) -> BoxedTargets:
    """The targets of a batch, see `assign_boxed`."""
    return assign_boxed(truths, size, config, config.model.meinst.resolution, semantic=False)


def batch_losses(
    output: NetworkOutput,
    targets: BoxedTargets,
    norms: Norms,
    images: Images,
    config: Config,
    iteration: int,
    generator: torch.Generator,
) -> Losses:
    """The weighted terms of the loss of one batch. generator: draws the soft labels of the masks."""
    loss = location_losses(output, targets.locations, norms, config.loss)
    uniform = draw_uniform(targets, generator) if config.loss.mask == "code" else None
    return loss._replace(mask=config.loss.mask_weight * mask_loss(output, targets, norms, uniform))


def draw_uniform(targets: BoxedTargets, generator: torch.Generator) -> Tensor:
    """Random numbers (K, m²) in [0, 1) for the soft labels of K positives."""
    positives = int((targets.locations.instance_index >= 0).sum())
    return torch.rand(positives, targets.squares.shape[1] ** 2, generator=generator)


def mask_loss(output: NetworkOutput, targets: BoxedTargets, norms: Norms, uniform: Tensor | None) -> Tensor:
    """The loss of the mask codes of all positives, weighted by their centerness.

    uniform: (K, m²) in [0, 1), the randomness of the soft labels, whose codes are the targets; positives in the order
    of images and locations. The loss is then the mean squared error. None: the mean cross-entropy of the decoded masks.
    """
    assert output.code is not None
    locations = targets.locations
    positives = (locations.instance_index >= 0).nonzero(as_tuple=True)
    instances = locations.instance_index[positives]
    predicted = flatten_levels(output.head.filters)[positives].float()
    masks = targets.squares.flatten(1)[instances]
    weights = locations.quality[positives] * locations.has_mask[instances]
    errors = _errors(predicted, masks, output.code, uniform)
    numbers = predicted.shape[1] if uniform is not None else masks.shape[1]
    return (errors.sum(dim=1) * weights).sum() / (numbers * norms.quality.clamp(min=1e-6)).clamp(min=1)


def _errors(predicted: Tensor, masks: Tensor, code: MaskCode, uniform: Tensor | None) -> Tensor:
    """predicted: (K, D). masks: (K, m²) bool. Returns (K, D), or (K, m²) without `uniform`."""
    if uniform is None:
        return cross_entropy(decode_logits(predicted, code), masks.float())
    wanted = encode(soft_logits(masks, uniform.to(masks.device)), code)
    return (predicted - wanted).square()

"""The losses of BlendMask (arXiv 2001.00309)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from condinst.config import Config
from condinst.model.heads.basis_module import STRIDE
from condinst.ops.blend import blend, pool_bases
from condinst.ops.locations import flatten_levels
from condinst.ops.losses import mask_cross_entropy
from condinst.structures import Images, Losses, NetworkOutput, Norms, Truth
from condinst.training.boxed.targets import BoxedTargets, assign_boxed
from condinst.training.objective import location_losses

POSITIVES_AT_ONCE = 256  # positives whose masks are blended together; bounds the memory


def assign_batch(
    output: NetworkOutput | None, truths: tuple[Truth, ...], size: tuple[int, int], config: Config
) -> BoxedTargets:
    """The targets of a batch, see `assign_boxed`."""
    return assign_boxed(truths, size, config, config.model.blendmask.resolution, config.model.semantic)


def batch_losses(
    output: NetworkOutput,
    targets: BoxedTargets,
    norms: Norms,
    images: Images,
    config: Config,
    iteration: int,
    generator: torch.Generator,
) -> Losses:
    """The weighted terms of the loss of one batch. The loss has no random part."""
    loss = location_losses(output, targets.locations, norms, config.loss)
    return loss._replace(
        mask=config.loss.mask_weight * _mask(output, targets, norms),
        semantic=config.loss.semantic_weight * _semantic(output, targets),
    )


def _mask(output: NetworkOutput, targets: BoxedTargets, norms: Norms) -> Tensor:
    """The mean cross-entropy of each positive's mask, weighted by its centerness.

    The bases are read inside the true boxes, once for each instance.
    """
    locations = targets.locations
    positives = (locations.instance_index >= 0).nonzero(as_tuple=True)
    instances, rows = torch.unique(locations.instance_index[positives], return_inverse=True)
    boxes, images = targets.boxes[instances], targets.image_index[instances]
    pooled = pool_bases(output.mask_features, boxes, images, targets.squares.shape[1], STRIDE)
    truth = targets.squares[instances]
    attention = flatten_levels(output.head.filters)[positives]
    weights = locations.quality[positives] * locations.has_mask[instances][rows]
    total = pooled.sum() * 0  # keeps the graph where there are no positives
    for part in torch.split(torch.arange(len(rows), device=rows.device), POSITIVES_AT_ONCE):
        chunk: Tensor = checkpoint(
            _summed, pooled, truth, rows[part], attention[part], weights[part], use_reentrant=False
        )
        total = total + chunk
    return (total + attention.sum() * 0) / norms.quality.clamp(min=1e-6)


def _summed(pooled: Tensor, truth: Tensor, rows: Tensor, attention: Tensor, weights: Tensor) -> Tensor:
    return (mask_cross_entropy(blend(pooled[rows], attention), truth[rows]) * weights).sum()


def _semantic(output: NetworkOutput, targets: BoxedTargets) -> Tensor:
    """The mean cross-entropy over all pixels; the padding is background."""
    if output.semantic_logits is None or targets.semantic is None:
        return output.mask_features.new_zeros(())
    return F.cross_entropy(output.semantic_logits.float(), targets.semantic)

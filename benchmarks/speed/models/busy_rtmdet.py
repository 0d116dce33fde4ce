"""RTMDet-Ins that gives as many instances as wanted, of ordinary sizes, without any training or download.

Weights are random, and batch norms take their statistics from the pictures. The controllers draw the diamonds of
`benchmarks.speed.models.busy`.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.speed.models.busy import diamond_filters
from benchmarks.speed.models.norms import settle_norms
from condinst.config import Config
from condinst.data.batch import make_images
from condinst.model.rtmdet_ins import RTMDetIns
from condinst.recipes import load_recipe
from condinst.weights.classes import COCO_CLASSES

CANDIDATES = 1000  # pairs of a location and a class that pass the threshold
LOWEST_LOGIT = -2.94  # of the threshold, 0.05
DISTANCE = 4.0  # in strides, so that boxes are as large as the masks


def busy_rtmdet(size: str, picture: NDArray[np.uint8]) -> tuple[RTMDetIns, Config]:
    """The model of a size, "tiny" to "x", and its settings. picture: (640, 640, 3) uint8 RGB."""
    recipe = load_recipe(f"rtmdet-ins-{size}")
    config = recipe.model_copy(update={"model": recipe.model.model_copy(update={"classes": COCO_CLASSES})})
    look = config.model
    images = make_images([picture], [picture.shape[:2]], look.pixel_mean, look.pixel_std, look.channel_order, 32).tensor
    return settled_rtmdet(config, images, CANDIDATES), config


def settled_rtmdet(config: Config, images: Tensor, candidates: int) -> RTMDetIns:
    """A model whose outputs for images (N, 3, H, W) have ordinary sizes. candidates: how many pass the threshold."""
    torch.manual_seed(0)
    model = RTMDetIns(config.model)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    settle_norms(model, images)
    head, branch = model.eval().head, model.mask_branch
    assert branch is not None
    with torch.no_grad():
        output = model(images)
        for level in range(len(config.model.geometry.strides)):
            _scale(head.class_logits[level], output.head.class_logits[level], 1.5, torch.zeros(()))
            _scale(head.distances[level], output.head.distances_in_strides[level], 0.5, torch.tensor(DISTANCE))
            _scale(head.controller[level], output.head.filters[level], 0.01, diamond_filters(model))
        _scale(branch.features, output.mask_features, 0.05, torch.zeros(()))
        logits = torch.cat([level.flatten() for level in model(images).head.class_logits])
        for convolution in head.class_logits:
            convolution.bias -= logits.sort(descending=True).values[candidates] - LOWEST_LOGIT
    return model


def _scale(convolution: nn.Module, maps: Tensor, deviation: float, mean: Tensor) -> None:
    """Change a convolution so that its output has this standard deviation and mean. maps: its output before."""
    assert isinstance(convolution, nn.Conv2d)
    assert convolution.bias is not None
    factor = deviation / maps.std(dim=(0, 2, 3)).mean().clamp(min=1e-6)
    convolution.weight.mul_(factor)
    convolution.bias.copy_(mean - factor * (maps.mean(dim=(0, 2, 3)) - convolution.bias))

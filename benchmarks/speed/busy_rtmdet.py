"""RTMDet-Ins that gives as many instances as wanted, of ordinary sizes, without any training or download.

Weights are random, and batch norms take their statistics from the picture. The controllers draw the diamonds of
`benchmarks.speed.busy`.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.speed.busy import diamond_filters
from benchmarks.speed.norms import settle_norms
from condinst.config import Config
from condinst.data.batch import make_images
from condinst.model.rtmdet_ins import RTMDetIns
from condinst.recipes import load_recipe
from condinst.weights.classes import COCO_CLASSES

CANDIDATES = 1000  # pairs of a location and a class that pass the threshold


def busy_rtmdet(size: str, picture: NDArray[np.uint8]) -> tuple[RTMDetIns, Config]:
    """The model of a size, "tiny" to "x", and its settings. picture: (640, 640, 3) uint8 RGB."""
    recipe = load_recipe(f"rtmdet-ins-{size}")
    config = recipe.model_copy(update={"model": recipe.model.model_copy(update={"classes": COCO_CLASSES})})
    torch.manual_seed(0)
    model, look = RTMDetIns(config.model), config.model
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    with torch.no_grad():
        for convolution in model.head.distances:
            convolution.weight.mul_(0.2)
            convolution.bias.fill_(4)  # boxes as large as the masks, in strides
        for convolution in model.head.controller:
            convolution.weight.mul_(0.02)
            convolution.bias.copy_(diamond_filters(model))
    images = make_images([picture], [picture.shape[:2]], look.pixel_mean, look.pixel_std, look.channel_order, 32).tensor
    settle_norms(model, images)
    model.eval()
    with torch.no_grad():
        logits = torch.cat([level.flatten() for level in model(images).head.class_logits])
        shift = logits.sort(descending=True).values[CANDIDATES] + 2.94  # the logit of the threshold, 0.05
        for convolution in model.head.class_logits:
            convolution.bias.sub_(shift)
    return model, config

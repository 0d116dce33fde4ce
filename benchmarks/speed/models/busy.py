"""Models and pictures that give as many instances as wanted, of ordinary sizes, without any training or download.

Every tensor is drawn from a generator that its name seeds. The controller's bias is a mask head that draws a diamond
around the location, half a coordinate scale of its level wide each way; the controller's weights make no two alike.
"""

from __future__ import annotations

import math
import zlib
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from condinst.config import Config
from condinst.model.condinst import CondInst
from condinst.model.instance_network import InstanceNetwork
from condinst.settings.model import BackboneConfig, ModelConfig
from condinst.settings.prediction import DetectConfig

CLASSES = 80
LOW_THRESHOLD = 0.01  # lets through what a thousand or more instances need; the published one is 0.05
RADIUS = 0.5  # of the diamonds, in coordinate scales: 32 px on P3, 512 on P7
SHARPNESS = 16.0  # logits per coordinate scale across a mask's edge


def busy_config(detections: int = 100) -> Config:
    """The published R50-FPN model's settings."""
    model = ModelConfig(
        classes=tuple(f"class {label}" for label in range(CLASSES)),
        backbone=BackboneConfig(stride_in_1x1=True),
        channel_order="BGR",
        pixel_mean=(103.53, 116.28, 123.675),
        pixel_std=(1, 1, 1),
    )
    many = detections > 500
    detect = DetectConfig(
        max_detections=detections,
        score_threshold=LOW_THRESHOLD if many else 0.05,
        candidates_per_level=max(2 * detections, 1000),
    )
    return Config(model=model, detect=detect)


def busy_model(config: Config) -> CondInst:
    """R50-FPN whose maps keep ordinary magnitudes and whose scores pass the threshold by the thousand."""
    model = CondInst(config.model).eval()
    model.load_state_dict({name: _fill(name, tensor, model) for name, tensor in model.state_dict().items()})
    return model


def busy_picture(height: int, width: int) -> NDArray[np.uint8]:
    """(height, width, 3) uint8 RGB: smooth noise, the same for the same size."""
    coarse = np.random.default_rng(0).integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def _fill(name: str, like: Tensor, model: CondInst) -> Tensor:
    if not like.is_floating_point():
        return like
    r = torch.randn(like.shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
    if name == "head.controller.bias":
        return diamond_filters(model)
    if name in BIASES:
        return BIASES[name] + 0.1 * r
    if like.ndim == 4:
        return GAINS.get(name, math.sqrt(2)) / math.sqrt(math.prod(like.shape[1:])) * r
    if name.endswith("running_var"):
        return 1 + 0.1 * r.abs()
    if name.endswith("weight") or name == "head.scales":
        return (1 + 0.1 * r) * (0.3 if name.endswith("bn3.weight") else 1)  # residual sums must not explode
    return 0.1 * r


# standard deviation of what a convolution makes of inputs of variance 1; √2 where a ReLU follows
GAINS = {
    "backbone.body.conv1.weight": 0.02,  # its inputs run to ±128
    "head.class_logits.weight": 1.44,
    "head.centerness.weight": 0.96,
    "head.distances.weight": 0.6,
    "mask_branch.features.weight": 0.05,
    "head.controller.weight": 0.1,
}
BIASES = {"head.class_logits.bias": -5.0, "head.distances.bias": 4.0}  # boxes as large as the masks, in strides


def diamond_filters(model: InstanceNetwork) -> Tensor:
    """The controller's numbers of |dx| + |dy| < RADIUS, with a little of the features: (count,)."""
    sizes = model.layout.sizes
    first, second, third = (torch.zeros(outputs, inputs) for inputs, outputs in pairwise(sizes))
    first[:4, :2] = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])  # ReLU makes them |dx| and |dy|
    first[4:, 2:6] = 0.3 * torch.eye(4)
    second[0, :4] = 1.0
    second[4:, 4:] = torch.eye(4)
    third[0, 0] = -SHARPNESS
    third[0, 4:] = torch.tensor([0.5, -0.5, 0.5, -0.5])
    biases = torch.zeros(sum(sizes[1:]))
    biases[-1] = RADIUS * SHARPNESS
    return torch.cat((first.flatten(), second.flatten(), third.flatten(), biases))

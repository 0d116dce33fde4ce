"""The parts of a method. `condinst.methods` binds them for each method."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from condinst.config import Config
    from condinst.model.instance_network import InstanceNetwork
    from condinst.settings.model import ModelConfig
    from condinst.settings.prediction import DetectConfig
    from condinst.structures import Detections, Images, Losses, NetworkOutput, Norms, Targets, Truth


Draw = Callable[["Tensor", "Detections", "ModelConfig"], Iterator["Tensor"]]


@dataclass(frozen=True)
class Method:
    """The parts of a method, in the order in which a picture meets them.

    network: (settings, pretrained) → the network with random weights. Its output is a `NetworkOutput`. With
        pretrained, timm downloads ImageNet weights for the backbone.
    detect: the output of the network → the instances of each image, best first.
    draw: the mask features (F, h, w) of one image and its instances → their mask logits, in chunks (k, h, w) float32.
    assign: the output of the network and the truth of each image → training targets.
    objective: output, targets, norms, images, settings, iteration from 0, generator of random numbers → losses. The
        norms are means over all processes.
    needs_output: whether the targets depend on the values of the output. Otherwise `assign` may get None in its place,
        together with the (height, width) of the padded input.
    """

    network: Callable[[ModelConfig, bool], InstanceNetwork]
    detect: Callable[[NetworkOutput, ModelConfig, DetectConfig], list[Detections]]
    draw: Draw
    assign: Callable[[NetworkOutput | None, tuple[Truth, ...], tuple[int, int], Config], Targets]
    objective: Callable[[NetworkOutput, Targets, Norms, Images, Config, int, torch.Generator], Losses]
    needs_output: Callable[[Config], bool]

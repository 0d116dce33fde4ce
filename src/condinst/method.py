"""The parts of a method. `condinst.methods` binds them for each method."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from condinst.config import Config
    from condinst.model.descriptions import Description
    from condinst.model.instance_network import InstanceNetwork
    from condinst.settings.model import ModelConfig
    from condinst.settings.prediction import DetectConfig
    from condinst.structures import Counts, Detections, Images, Losses, Norms, Truth

Output = TypeVar("Output")  # what the network gives, a tuple of tensors
Goal = TypeVar("Goal")  # the training targets of a batch

# (output, index of the image, its instances, settings) → their masks in chunks (k, h, w) float32, see `Geometry`
Draw = Callable[[Any, int, "Detections", "ModelConfig"], Iterator["Tensor"]]


@dataclass(frozen=True)
class Method(Generic[Output, Goal]):
    """The parts of a method, in the order in which a picture meets them.

    Output and Goal are the method's own types. No other part of the package reads them.

    network: (settings, pretrained) → the network with random weights. With pretrained, timm downloads ImageNet weights
        for the backbone.
    detect: (output, settings, settings of detection, labels) → the instances of each image, best first. labels: the
        classes to find, or None for all.
    draw: (output, index of an image, its instances, settings) → the values of their masks in chunks (k, h, w) float32.
        `Geometry.enlarging` says what the values are and how they become masks.
    assign: (output, truth of each image, (height, width) of the padded input, settings) → training targets.
    count: (targets, settings) → the numbers that the losses are divided by.
    objective: (output, targets, norms, images, settings, iteration from 0, generator of random numbers) → losses. The
        norms are means over all processes.
    needs_output: whether the targets depend on the values of the output. Otherwise `assign` may get None in its place.
    describe: words for the parts of the network.
    begin: (network, settings) → lines about what the network needs before its training, and got. None: nothing.
    """

    network: Callable[[ModelConfig, bool], InstanceNetwork]
    detect: Callable[[Output, ModelConfig, DetectConfig, tuple[int, ...] | None], list[Detections]]
    draw: Draw
    assign: Callable[[Output | None, tuple[Truth, ...], tuple[int, int], Config], Goal]
    count: Callable[[Goal, Config], Counts]
    objective: Callable[[Output, Goal, Norms, Images, Config, int, torch.Generator], Losses]
    needs_output: Callable[[Config], bool]
    describe: Callable[[ModelConfig], Description]
    begin: Callable[[InstanceNetwork, Config], list[str]] | None = None

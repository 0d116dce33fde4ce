"""The whole program: images → boxes, scores, labels, count and masks of every image, with tensors of fixed shapes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from condinst.config import Config
from condinst.errors import UsageError
from condinst.inference.detect import NONE, detect_fixed
from condinst.inference.select import KeepBoxes
from condinst.model.backbones.same_padding import plain_same_conv
from condinst.model.condinst import CondInst, filter_layout
from condinst.model.instance_network import InstanceNetwork
from condinst.model.prediction.controller import take_controller
from condinst.model.prediction.fold import fold_norms
from condinst.model.prediction.join_heads import join_heads
from condinst.ops.dynamic_mask_head import dynamic_mask_head_of_each
from condinst.structures import Controller, NetworkOutput


class ProgramOutput(NamedTuple):
    """The output of an exported program for N images. D is `detect.max_detections`. Rows from the count on are empty.

    boxes: (N, D, 4) xyxy, in pixels of the input. They may reach outside the image.
    scores: (N, D), best first, −1 in empty rows.
    labels: (N, D) int64 in [0, C), −1 in empty rows.
    counts: (N,) int64, the number of instances. Its name in a program is "count".
    mask_logits: (N, D, H/8, W/8). A mask pixel has a logit above 0, after enlarging. The example beside the program
        shows how.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    counts: Tensor
    mask_logits: Tensor


class Program(nn.Module):
    """A model with the detection and the dynamic mask head behind it, for exporters.

    Input: (N, 3, H, W) float32, normalised and padded as for the model. The program holds a copy of `model` with
    batch norms folded and convolutions with "same" padding made plain. keep_boxes: the suppression of duplicates.
    Raises UsageError for settings that cannot be exported.
    """

    def __init__(self, model: InstanceNetwork, config: Config, keep_boxes: KeepBoxes) -> None:
        super().__init__()
        self.scales: Tensor
        check_exportable(config)
        self.network, self.config, self.keep_boxes = _exportable(model), config, keep_boxes
        # an exported program computes RTMDet-Ins's filters at all locations
        controller = take_controller(self.network) if isinstance(self.network, CondInst) else None
        self.has_controller = isinstance(controller, Controller)
        if isinstance(controller, Controller):
            self.controller_weight = nn.Parameter(controller.weight, requires_grad=False)
            self.controller_bias = nn.Parameter(controller.bias, requires_grad=False)
        self.layout = filter_layout(config.model)
        self.register_buffer("scales", torch.tensor(config.model.coordinate_scales), persistent=False)

    def forward(self, images: Tensor) -> ProgramOutput:
        return self.after(self.run_network(images))

    def run_network(self, images: Tensor) -> NetworkOutput:
        """The network's output, with the controller if the network leaves it to the detection."""
        output: NetworkOutput = self.network(images)
        if not self.has_controller:
            return output
        return output._replace(controller=Controller(self.controller_weight, self.controller_bias))

    def after(self, output: NetworkOutput) -> ProgramOutput:
        """The program's output from the network's output."""
        found = detect_fixed(output, self.config.detect, self.keep_boxes, self.config.model.geometry)
        logits = dynamic_mask_head_of_each(
            output.mask_features,
            found.filters,
            found.locations,
            self.scales[found.levels],
            self.layout,
            self.config.model.coordinates,
            self.config.model.geometry,
        )
        counts = (found.scores > NONE).sum(dim=1)
        return ProgramOutput(found.boxes, found.scores, found.labels, counts, logits)


EXPORTED = ("condinst", "rtmdet-ins", "solov2-fcos")  # methods


def check_exportable(config: Config) -> None:
    """Raise UsageError for a method or an NMS that cannot be exported."""
    if config.model.method not in EXPORTED:
        known = ", ".join(EXPORTED)
        raise UsageError(f"model.method={config.model.method} cannot be exported; condinst exports models of {known}")
    if config.detect.nms != "box":
        raise UsageError(
            f"detect.nms={config.detect.nms} cannot be exported; export with --nms box, or keep the model folder"
        )


def _exportable(model: InstanceNetwork) -> nn.Module:
    copy = fold_norms(model).requires_grad_(False).cpu()
    join_heads(copy)
    for name, module in list(copy.named_modules()):
        if isinstance(module, Conv2dSame):
            plain = plain_same_conv(module)
            if plain is None:
                raise UsageError(f"{name}: a convolution with this padding, stride and dilation cannot be exported")
            copy.set_submodule(name, plain)
    return copy

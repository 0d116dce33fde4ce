"""The published CondInst of the paper's authors (AdelaiDet): names and settings of its state dict."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from condinst.config import BackboneConfig, Config, ModelConfig
from condinst.structures import STRIDES
from condinst.weights.layout import Architecture, Layout, find_width, rename, resnet_name, shape_of

BODY = "backbone.bottom_up."
HEAD = "proposal_generator.fcos_head."
# the defaults of the other sections are this program's
SETTINGS = Config(
    model=ModelConfig(
        backbone=BackboneConfig(stride_in_1x1=True),
        channel_order="BGR",
        pixel_mean=(103.53, 116.28, 123.675),
        pixel_std=(1, 1, 1),
    )
)
RENAMING = (
    ("backbone.body.conv1.", f"{BODY}stem.conv1."),
    ("backbone.body.bn1.", f"{BODY}stem.conv1.norm."),
    *((f"backbone.body.layer{stage}.", f"{BODY}res{stage + 1}.") for stage in range(1, 5)),
    *((f"fpn.laterals.{index}.", f"backbone.fpn_lateral{index + 3}.") for index in range(3)),
    *((f"fpn.outputs.{index}.", f"backbone.fpn_output{index + 3}.") for index in range(3)),
    ("fpn.", "backbone.top_block."),
    ("head.class_tower.", f"{HEAD}cls_tower."),
    ("head.box_tower.", f"{HEAD}bbox_tower."),
    ("head.class_logits.", f"{HEAD}cls_logits."),
    ("head.distances.", f"{HEAD}bbox_pred."),
    ("head.centerness.", f"{HEAD}ctrness."),
    ("head.controller.", "controller."),
    ("mask_branch.features.", "mask_branch.tower.4."),
    ("mask_branch.", "mask_branch."),
    ("semantic_head.tower.", "mask_branch.seg_head."),
    ("semantic_head.logits.", "mask_branch.logits."),
)


def source_names(own: str) -> tuple[str, ...]:
    """The published tensors that ours is made of: one, or the five scales."""
    if own == "head.scales":
        return tuple(f"{HEAD}scales.{level}.scale" for level in range(len(STRIDES)))
    name = rename(own, RENAMING)
    if name.startswith(f"{BODY}res"):
        name = re.sub(r"\.bn(\d)\.", r".conv\1.norm.", name)  # their norm lives inside its convolution
        name = name.replace(".downsample.0.", ".shortcut.").replace(".downsample.1.", ".shortcut.norm.")
    return (name,)


def recognises(state: Mapping[str, Tensor]) -> bool:
    """Whether names of `state` are this program's."""
    return any(name.startswith(HEAD) for name in state)


def read_architecture(state: Mapping[str, Tensor]) -> Architecture:
    """Raises ModelError if the tensors are not those of a published architecture."""
    blocks = {name.removeprefix(f"{BODY}res4.").split(".")[0] for name in state if name.startswith(f"{BODY}res4.")}
    features = shape_of(state, "mask_branch.tower.4.weight")[0]
    return Architecture(
        backbone=resnet_name(blocks),
        classes=shape_of(state, f"{HEAD}cls_logits.weight")[0],
        features=features,
        width=find_width(shape_of(state, "controller.weight")[0], features),
        semantic="mask_branch.logits.weight" in state,
    )


LAYOUT = Layout(
    program="AdelaiDet",
    settings=SETTINGS,
    recognises=recognises,
    read_architecture=read_architecture,
    source_names=source_names,
    ignored=("mask_head.sizes_of_interest", "mask_head._iter"),
)

"""The published CondInst of the paper's authors (AdelaiDet): names and settings of its state dict."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

from torch import Tensor

from condinst.config import Config
from condinst.errors import ModelError
from condinst.model.pyramids.bifpn import NODES
from condinst.settings.model import BackboneConfig, HeadConfig, ModelConfig
from condinst.structures import STRIDES
from condinst.weights.published.layout import Architecture, Layout, find_width, read_counts, rename, resnet_name
from condinst.weights.tensors import some

FPN_BODY, BIFPN_BODY = "backbone.bottom_up.", "backbone.bottom_up.backbone."
HEAD = "proposal_generator.fcos_head."
ABOUT = {"origin": "AdelaiDet", "licence": "its publisher's; the authors' own weights: non-commercial use"}
# AdelaiDet uses condinst's defaults in the other sections
FPN_MODEL = ModelConfig(
    backbone=BackboneConfig(stride_in_1x1=True),
    channel_order="BGR",
    pixel_mean=(103.53, 116.28, 123.675),
    pixel_std=(1, 1, 1),
)
BIFPN_MODEL = FPN_MODEL.model_copy(update={"pyramid": "bifpn", "fpn_channels": 160, "head": HeadConfig(channels=160)})
STAGES = tuple((f"backbone.body.layer{stage}.", f"res{stage + 1}.") for stage in range(1, 5))
PYRAMID = (
    *((f"fpn.laterals.{index}.", f"backbone.fpn_lateral{index + 3}.") for index in range(3)),
    *((f"fpn.outputs.{index}.", f"backbone.fpn_output{index + 3}.") for index in range(3)),
    ("fpn.p", "backbone.top_block.p"),
    ("fpn.reduce.0.", "backbone.bottom_up.res6.reduction."),
    ("fpn.reduce.1.", "backbone.bottom_up.res6.reduction.norm."),
    ("fpn.repeats.", "backbone.repeated_bifpn."),
)
HEADS = (
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


def source_names(own: str, body: str) -> tuple[str, ...]:
    """Return the published tensor names for `own`: one name, or five scales. body: prefix of the ResNet."""
    if own == "head.scales":
        return tuple(f"{HEAD}scales.{level}.scale" for level in range(len(STRIDES)))
    if own.startswith("backbone."):
        return (body + _in_resnet(own),)
    name = rename(own, (*PYRAMID, *HEADS))
    return (_in_repeat(name) if own.startswith("fpn.repeats.") else name,)


def _in_resnet(own: str) -> str:
    """Rename a ResNet tensor. AdelaiDet's norms are inside the convolutions, and its stem is a separate block."""
    name = rename(own, (*STAGES, ("backbone.body.", "stem.")))
    name = name.replace(".downsample.0.", ".shortcut.").replace(".downsample.1.", ".shortcut.norm.")
    name = name.replace(".conv2.offset.", ".conv2_offset.")
    return re.sub(r"\.bn(\d)\.", r".conv\1.norm.", name)


def _in_repeat(name: str) -> str:
    """Rename a BiFPN tensor. AdelaiDet names fusions and laterals after their inputs and outputs."""
    name = re.sub(r"\.laterals\.(\d)\.", r".lateral_\1_f\1.", name)
    fusion = re.search(r"\.fusions\.(\d)\.", name)
    if fusion:
        node = NODES[int(fusion[1])]
        title = "_".join(str(number) for number in (f"f{node.level}", *node.inputs))
        name = name.replace(f"{fusion[0]}weights", f".weights_{title}")
        name = name.replace(f"{fusion[0]}output.", f".outputs_{title}.")
    return re.sub(r"(lateral_\w+|outputs_\w+)\.(\d)\.", _part, name)


def _part(match: re.Match[str]) -> str:
    return f"{match[1]}.norm." if match[2] == "1" else f"{match[1]}."


def recognises(state: Mapping[str, Tensor], body: str) -> bool:
    """Return whether `state` has AdelaiDet's names, with the ResNet under `body`."""
    return any(name.startswith(HEAD) for name in state) and any(name.startswith(f"{body}stem.") for name in state)


def read_architecture(state: Mapping[str, Tensor], body: str) -> Architecture:
    """Infer the architecture from the tensors. Raises ModelError if it is not a published architecture."""
    stage = f"{body}res4."
    counts = read_counts(state, f"{HEAD}cls_logits.weight", "mask_branch.tower.4.weight", "controller.weight")
    return Architecture(
        backbone=resnet_name({name.removeprefix(stage).split(".")[0] for name in state if name.startswith(stage)}),
        deformable_interval=deformable_interval(state, body),
        classes=counts.classes,
        features=counts.features,
        width=find_width(counts.filters, counts.features),
        semantic="mask_branch.logits.weight" in state,
    )


def deformable_interval(state: Mapping[str, Tensor], body: str) -> int:
    """Return n if every n-th block of res3, res4 and res5, from the first on, is deformable; 0 without such blocks.

    Raises ModelError for any other choice of blocks.
    """
    deformable = _blocks_with("conv2_offset.weight", state, body)
    if not deformable:
        return 0
    blocks = {(stage, index) for stage, index in _blocks_with("conv2.weight", state, body) if stage >= 3}
    for interval in range(1, len(blocks) + 1):
        if deformable == {(stage, index) for stage, index in blocks if index % interval == 0}:
            return interval
    found = some([f"res{stage}.{index}" for stage, index in sorted(deformable)])
    raise ModelError(f"deformable convolutions in {found}; expected in every n-th block of res3, res4 and res5")


def _blocks_with(tensor: str, state: Mapping[str, Tensor], body: str) -> set[tuple[int, int]]:
    """Return the stage (2 for res2) and the index in it of each block with such a tensor."""
    matches = (re.fullmatch(rf"{re.escape(body)}res(\d)\.(\d{{1,3}})\.{re.escape(tensor)}", name) for name in state)
    return {(int(match[1]), int(match[2])) for match in matches if match}


FPN_LAYOUT, BIFPN_LAYOUT = (
    Layout(
        program="AdelaiDet",
        settings=Config(about=ABOUT, model=model),
        recognises=partial(recognises, body=body),
        read_architecture=partial(read_architecture, body=body),
        source_names=partial(source_names, body=body),
        ignored=("mask_head.sizes_of_interest", "mask_head._iter"),
    )
    for body, model in ((FPN_BODY, FPN_MODEL), (BIFPN_BODY, BIFPN_MODEL))
)

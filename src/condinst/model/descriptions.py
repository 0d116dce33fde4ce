"""Words for the parts of a network that differ between methods."""

from __future__ import annotations

from typing import NamedTuple

from condinst.model.condinst import filter_layout
from condinst.settings.model import ModelConfig
from condinst.structures import MASK_FEATURE_STRIDE


class Description(NamedTuple):
    """The parts of a model in words. filters: numbers that the network predicts for the mask of one instance."""

    pyramid: str
    head: str
    mask_branch: str
    mask_head: str
    filters: int


def describe_condinst(model: ModelConfig) -> Description:
    """The parts of a CondInst."""
    pyramid = f"BiFPN, {model.bifpn_repeats} repeats" if model.pyramid == "bifpn" else "FPN"
    return Description(
        f"{pyramid}, {model.fpn_channels} channels", f"FCOS, two towers {tower(model)}", *_dynamic(model)
    )


def describe_linear(model: ModelConfig) -> Description:
    """The parts of a model whose masks are weighted sums of the mask features."""
    described = describe_condinst(model)
    where = ", cut to the box" if model.geometry.cut else ""
    words = f"a weighted sum of the features, masks at stride {model.mask_head.mask_out_stride}{where}"
    return described._replace(mask_head=words)


def describe_rtmdet_ins(model: ModelConfig) -> Description:
    """The parts of an RTMDet-Ins."""
    blocks = f"{model.pafpn_blocks} block{'s' * (model.pafpn_blocks != 1)} in each stage"
    if model.head.separate_box_tower:
        head = f"RTMDet, towers for classes, boxes and filters {tower(model)}"
    else:
        head = f"RTMDet, a tower for classes and boxes and one for filters {tower(model)}"
    return Description(f"PAFPN, {blocks}, {model.fpn_channels} channels", head, *_dynamic(model))


def describe_yolact(model: ModelConfig) -> Description:
    """The parts of a YOLACT."""
    branch = model.mask_branch
    return Description(
        pyramid=f"FPN, {model.fpn_channels} channels",
        head=f"three anchors in each cell, a tower {tower(model)}",
        mask_branch=f"{branch.convs} convolutions, {branch.channels} channels, {branch.features} prototypes at stride "
        f"{MASK_FEATURE_STRIDE // 2}{_semantic(model)}",
        mask_head="a sum of the prototypes, cut to the box",
        filters=branch.features,
    )


def describe_blendmask(model: ModelConfig) -> Description:
    """The parts of a BlendMask."""
    branch, head, side = model.mask_branch, model.head, model.blendmask.attention
    shared = f"a tower of {head.shared_convs} convolutions for all" if head.shared_convs else ""
    own = f"two towers {tower(model)}" if head.convs or not shared else f"{head.channels} channels"
    return Description(
        pyramid=f"FPN of {len(model.geometry.strides)} levels, {model.fpn_channels} channels",
        head=", ".join(("FCOS", *filter(None, (shared, own)))),
        mask_branch=f"{branch.convs + 1} convolutions, {branch.channels} channels, {branch.features} bases at stride "
        f"{MASK_FEATURE_STRIDE // 2}{_semantic(model)}",
        mask_head=f"a sum of the bases inside the box, weighted by {branch.features} maps of {side}×{side}",
        filters=branch.features * side**2,
    )


def describe_meinst(model: ModelConfig) -> Description:
    """The parts of an MEInst."""
    deformable = ", the last one deformable" if model.head.deformable else ""
    return Description(
        pyramid=f"FPN, {model.fpn_channels} channels",
        head=f"FCOS, three towers {tower(model)}{deformable}",
        mask_branch="none",
        mask_head=f"a linear code of masks of {model.meinst.resolution}×{model.meinst.resolution} inside the box",
        filters=model.meinst.code,
    )


def tower(model: ModelConfig) -> str:
    """The length and the width of the towers of a head."""
    return f"of {model.head.convs} convolution{'s' * (model.head.convs != 1)}, {model.head.channels} channels"


def _semantic(model: ModelConfig) -> str:
    return ", semantic head in training" if model.semantic else ""


def _dynamic(model: ModelConfig) -> tuple[str, str, int]:
    """Describe mask branch and dynamic mask head, and return the number of filters."""
    layout, branch, head = filter_layout(model), model.mask_branch, model.mask_head
    features = (
        f"{branch.convs} convolutions, {branch.channels} channels, {layout.features} features at stride "
        f"{MASK_FEATURE_STRIDE}{_semantic(model)}"
    )
    layers = "→".join(str(size) for size in layout.sizes)
    words = f"{head.depth} layers {layers}, coordinates {head.coordinates}, masks at stride {head.mask_out_stride}"
    return features if layout.features else "none", words, layout.count

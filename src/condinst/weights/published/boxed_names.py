"""The published BlendMask and MEInst (AdelaiDet): names of their tensors."""

from __future__ import annotations

import re

from condinst.structures import STRIDES
from condinst.weights.published import adelaidet
from condinst.weights.published.layout import Renaming, rename

BODY = adelaidet.FPN_BODY
BASES = "basis_module."
MEINST_HEAD = "proposal_generator.MEInst_head."
ENCODING = "proposal_generator.mask_encoding."
DLA = f"{BODY}base_layer."
UNUSED_DLA = ("level3.project.", "level4.project.")  # layers whose result DLA-34 does not use
SHARED_CONV = re.compile(r"convs\.(\d+)\.(\w+)$")  # convolution of the shared tower, tensor
SHARED_NORM = re.compile(r"norms\.(\d+)\.(\d+)\.(\w+)$")  # level, convolution of the shared tower, tensor


def blendmask_names(own: str, convs: int, dla: bool) -> tuple[str, ...]:
    """Return the name of the published tensor for one of ours, in a tuple. convs: those of the tower of the bases."""
    if own.startswith("backbone."):
        return (own.replace("backbone.body.", BODY),) if dla else adelaidet.source_names(own, BODY)
    name = rename(own, (*adelaidet.PYRAMID, *_head(adelaidet.HEAD, "top_layer."), *_bases(convs)))
    if own.startswith("head.shared_tower."):
        name = SHARED_NORM.sub(lambda found: f"{3 * int(found[2]) + 1}.{found[1]}.{found[3]}", name)
        name = SHARED_CONV.sub(lambda found: f"{3 * int(found[1])}.{found[2]}", name)
    return (name,)


def meinst_names(own: str) -> tuple[str, ...]:
    """Return the published tensor names for one of ours: one name, or five scales."""
    if own == "head.scales":
        return tuple(f"{MEINST_HEAD}scales.{level}.scale" for level in range(len(STRIDES)))
    if own.startswith("backbone."):
        return adelaidet.source_names(own, BODY)
    return (rename(own, (*adelaidet.PYRAMID, *_head(MEINST_HEAD, f"{MEINST_HEAD}mask_pred."), *CODE)),)


def deformable_names(own: str, last: int) -> tuple[str, ...]:
    """Return the same as `meinst_names` for a model with a deformable layer `last` in each tower."""
    (*names,) = meinst_names(own)
    weight = f"_tower.{last}.weight"
    return tuple(name.replace(weight, f"_tower.{last}.conv.weight") for name in names)


def _head(head: str, controller: str) -> Renaming:
    return (
        ("head.shared_tower.", f"{head}share_tower."),
        ("head.class_tower.", f"{head}cls_tower."),
        ("head.box_tower.", f"{head}bbox_tower."),
        ("head.mask_tower.", f"{head}mask_tower."),
        ("head.class_logits.", f"{head}cls_logits."),
        ("head.distances.", f"{head}bbox_pred."),
        ("head.centerness.", f"{head}ctrness."),
        ("head.controller.", controller),
    )


def _bases(convs: int) -> Renaming:
    """The layers of the bases after the tower are numbered with its layers, and so is the enlargement between them."""
    return (
        ("mask_branch.fine.", f"{BASES}tower.{convs + 1}."),
        ("mask_branch.features.", f"{BASES}tower.{convs + 2}."),
        ("mask_branch.", BASES),
        *((f"semantic_head.tower.{i}.{j}.", f"{BASES}seg_head.{3 * i + j}.") for i in range(2) for j in range(2)),
        ("semantic_head.logits.", f"{BASES}seg_head.6."),
    )


CODE = (
    ("mask_code.components", f"{ENCODING}components"),
    ("mask_code.variances", f"{ENCODING}explained_variances"),
    ("mask_code.means", f"{ENCODING}means"),
)

"""mmdetection's RTMDet-Ins: names of its state dict."""

from __future__ import annotations

import re

from condinst.structures import RTMDET_INS
from condinst.weights.published.layout import rename

HEAD = "bbox_head."
BRANCH = "bbox_head.mask_head."
LEVELS = range(len(RTMDET_INS.strides))
CLASS_TOWER, BOX_TOWER = f"{HEAD}cls_convs.", f"{HEAD}reg_convs."
RENAMING = (
    ("backbone.body.", "backbone."),
    ("fpn.", "neck."),
    ("head.class_tower.", CLASS_TOWER),
    ("head.box_tower.", BOX_TOWER),
    ("head.controller_tower.levels.", f"{HEAD}kernel_convs."),
    ("head.class_logits.", f"{HEAD}rtm_cls."),
    ("head.distances.", f"{HEAD}rtm_reg."),
    ("head.controller.", f"{HEAD}rtm_kernel."),
    ("mask_branch.fusion.", f"{BRANCH}fusion_conv."),
    ("mask_branch.tower.", f"{BRANCH}stacked_convs."),
    ("mask_branch.features.", f"{BRANCH}projection."),
)
SHARED_CONV = re.compile(r"convs\.(\d+)\.(\w+)$")  # convolution of a tower, tensor
NORM_OF_LEVEL = re.compile(r"norms\.(\d+)\.(\d+)\.(\w+)$")  # level, convolution of a tower, tensor


def source_names(own: str) -> tuple[str, ...]:
    """Return the name of the published tensor for one of ours, in a tuple."""
    name = rename(own, RENAMING)
    if name.startswith((CLASS_TOWER, BOX_TOWER)):
        name = SHARED_CONV.sub(r"0.\1.conv.\2", NORM_OF_LEVEL.sub(r"\1.\2.bn.\3", name))
    return (name,)


def alias_names(own: str, separate_box_tower: bool = False) -> tuple[str, ...]:
    """Return the other names under which a published file holds one of our tensors.

    A file holds the convolutions of a shared tower once for each level. Unless `separate_box_tower`, it also holds the
    class tower a second time as the box tower.
    """
    (name,) = source_names(own)
    if not name.startswith((CLASS_TOWER, BOX_TOWER)):
        return ()
    names = [name]
    if SHARED_CONV.search(own):
        tower, tensor = name.split(".0.", 1)
        names = [f"{tower}.{level}.{tensor}" for level in LEVELS]
    if name.startswith(CLASS_TOWER) and not separate_box_tower:
        names += [BOX_TOWER + one.removeprefix(CLASS_TOWER) for one in names]
    return tuple(names[1:])

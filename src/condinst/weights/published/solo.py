"""mmdetection's SOLO, Decoupled SOLO and SOLOv2: names of their state dicts."""

from __future__ import annotations

import re

from condinst.weights.published.layout import rename

HEAD = "mask_head."
BRANCH = f"{HEAD}mask_feature_head."
RENAMING = (
    ("backbone.body.", "backbone."),
    ("fpn.laterals.", "neck.lateral_convs."),
    ("fpn.outputs.", "neck.fpn_convs."),
    ("head.class_tower.", f"{HEAD}cls_convs."),
    ("head.mask_tower.", f"{HEAD}mask_convs."),
    ("head.column_tower.", f"{HEAD}mask_convs_x."),
    ("head.row_tower.", f"{HEAD}mask_convs_y."),
    ("head.filter_tower.", f"{HEAD}kernel_convs."),
    ("head.class_logits.", f"{HEAD}conv_cls."),
    ("head.masks.", f"{HEAD}conv_mask_list."),
    ("head.columns.", f"{HEAD}conv_mask_list_x."),
    ("head.rows.", f"{HEAD}conv_mask_list_y."),
    ("head.filters.", f"{HEAD}conv_kernel."),
    ("head.mask_branch.levels.", f"{BRANCH}convs_all_levels."),
    ("head.mask_branch.last.", f"{BRANCH}conv_pred."),
)
LAYER = re.compile(r"^(neck\.\w+\.\d+)\.")  # a layer of the pyramid
STEP = re.compile(r"(convs_all_levels\.\d+)\.(\d+)\.")  # a block of the mask features


def source_names(own: str) -> tuple[str, ...]:
    """Return the name of the published tensor for one of ours, in a tuple."""
    name = rename(own, RENAMING).replace(".offset.", ".conv_offset.")
    name = STEP.sub(r"\1.conv\2.", LAYER.sub(r"\1.conv.", name))
    return (re.sub(r"\.norm\.(weight|bias)$", r".gn.\1", name),)

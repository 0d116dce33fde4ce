"""mmdetection's YOLACT: names of its state dict."""

from __future__ import annotations

from condinst.weights.published.layout import rename

HEAD = "bbox_head."
PROTONET = "mask_head.protonet."
SEMANTIC = "mask_head.segm_branch.segm_conv."
OLD_SEMANTIC = "segm_head.segm_conv."  # in files of mmdetection 2
TOWER = range(1)  # convolutions of the head's tower
CONVS = range(3)  # convolutions of the prototypes before the enlarging
RENAMING = (
    ("backbone.body.", "backbone."),
    *((f"fpn.laterals.{index}.", f"neck.lateral_convs.{index}.conv.") for index in range(3)),
    *((f"fpn.outputs.{index}.", f"neck.fpn_convs.{index}.conv.") for index in range(3)),
    ("fpn.p6.", "neck.fpn_convs.3.conv."),
    ("fpn.p7.", "neck.fpn_convs.4.conv."),
    *((f"head.tower.{2 * index}.", f"{HEAD}head_convs.{index}.conv.") for index in TOWER),
    ("head.class_logits.", f"{HEAD}conv_cls."),
    ("head.deltas.", f"{HEAD}conv_reg."),
    ("head.coefficients.", f"{HEAD}conv_coeff."),
    *((f"mask_branch.tower.{2 * index}.", f"{PROTONET}{2 * index}.") for index in CONVS),
    ("mask_branch.enlarged.", f"{PROTONET}8."),
    ("mask_branch.features.", f"{PROTONET}10."),
    ("semantic_head.", SEMANTIC),
)


def source_names(own: str) -> tuple[str, ...]:
    """Return the name of the published tensor for one of ours, in a tuple."""
    return (rename(own, RENAMING),)

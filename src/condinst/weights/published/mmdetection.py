"""mmdetection's CondInst: names and settings of its state dict."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from condinst.config import Config
from condinst.settings.model import BackboneConfig, ModelConfig
from condinst.settings.prediction import DetectConfig
from condinst.settings.training import LossConfig, TargetConfig
from condinst.structures import STRIDES
from condinst.weights.published.layout import Architecture, Layout, find_width, read_counts, rename, resnet_name

HEAD = "bbox_head."
BRANCH = "mask_head.mask_feature_head."
CONVS = range(4)  # convolutions of each tower
SETTINGS = Config(
    about={"origin": "mmdetection", "licence": "its publisher's; the project's own weights: Apache-2.0"},
    model=ModelConfig(backbone=BackboneConfig(norm="affine")),
    detect=DetectConfig(score_root=False),
    loss=LossConfig(box="plain_giou"),
    targets=TargetConfig(mask_sampling="random_per_image", max_mask_positives=300),
)
RENAMING = (
    ("backbone.body.", "backbone."),
    *((f"fpn.laterals.{index}.", f"neck.lateral_convs.{index}.conv.") for index in range(3)),
    *((f"fpn.outputs.{index}.", f"neck.fpn_convs.{index}.conv.") for index in range(3)),
    ("fpn.p6.", "neck.fpn_convs.3.conv."),
    ("fpn.p7.", "neck.fpn_convs.4.conv."),
    *((f"head.class_tower.{3 * index}.", f"{HEAD}cls_convs.{index}.conv.") for index in CONVS),
    *((f"head.class_tower.{3 * index + 1}.", f"{HEAD}cls_convs.{index}.gn.") for index in CONVS),
    *((f"head.box_tower.{3 * index}.", f"{HEAD}reg_convs.{index}.conv.") for index in CONVS),
    *((f"head.box_tower.{3 * index + 1}.", f"{HEAD}reg_convs.{index}.gn.") for index in CONVS),
    ("head.class_logits.", f"{HEAD}conv_cls."),
    ("head.distances.", f"{HEAD}conv_reg."),
    ("head.centerness.", f"{HEAD}conv_centerness."),
    ("head.controller.", f"{HEAD}controller."),
    *((f"mask_branch.refine.{i}.0.", f"{BRANCH}convs_all_levels.{i}.conv{i}.conv.") for i in range(3)),
    *((f"mask_branch.refine.{i}.1.", f"{BRANCH}convs_all_levels.{i}.conv{i}.bn.") for i in range(3)),
    *((f"mask_branch.tower.{index}.0.", f"{BRANCH}conv_branch.{index}.conv.") for index in CONVS),
    *((f"mask_branch.tower.{index}.1.", f"{BRANCH}conv_branch.{index}.bn.") for index in CONVS),
    ("mask_branch.features.", f"{BRANCH}conv_pred."),
)


def source_names(own: str) -> tuple[str, ...]:
    """Return the published tensor names for one of ours: one name, or five scales."""
    if own == "head.scales":
        return tuple(f"{HEAD}scales.{level}.scale" for level in range(len(STRIDES)))
    return (rename(own, RENAMING),)


def recognises(state: Mapping[str, Tensor]) -> bool:
    """Return whether `state` has mmdetection's names."""
    return any(name.startswith((f"{HEAD}conv_cls.", BRANCH)) for name in state)


def read_architecture(state: Mapping[str, Tensor]) -> Architecture:
    """Infer the architecture from the tensors. Raises ModelError if it is not a published architecture."""
    blocks = {name.split(".")[2] for name in state if name.startswith("backbone.layer3.")}
    counts = read_counts(state, f"{HEAD}conv_cls.weight", f"{BRANCH}conv_pred.weight", f"{HEAD}controller.weight")
    return Architecture(
        backbone=resnet_name(blocks),
        deformable_interval=0,
        classes=counts.classes,
        features=counts.features,
        width=find_width(counts.filters, counts.features),
        semantic=False,
    )


LAYOUT = Layout(
    program="mmdetection",
    settings=SETTINGS,
    recognises=recognises,
    read_architecture=read_architecture,
    source_names=source_names,
    ignored=("mask_head._iter",),  # BoxInst's warm-up
)

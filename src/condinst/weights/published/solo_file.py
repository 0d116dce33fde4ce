"""Files of the SOLO family, of mmdetection and of the authors' program: kind, form and backbone of their model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from math import isqrt
from typing import Any

from torch import Tensor

from condinst.config import Config
from condinst.errors import ModelError
from condinst.recipes import load_recipe
from condinst.weights.published.layout import MOST_CLASSES, Architecture, Layout
from condinst.weights.published.mmdetection import SETTINGS
from condinst.weights.published.solo import BRANCH, HEAD, source_names
from condinst.weights.tensors import some

LOGITS = f"{HEAD}conv_cls.weight"
# a tensor of one kind alone → the recipes of its usual form and of its light form
KINDS = {
    f"{HEAD}conv_mask_list.0.weight": ("solo-r50-3x", ""),
    f"{HEAD}conv_mask_list_x.0.weight": ("decoupled-solo-r50-3x", "decoupled-solo-light-r50-3x"),
    f"{HEAD}conv_kernel.weight": ("solov2-r50-3x", "solov2-light-r50-3x"),
}
LIGHT_CONVS = {"decoupled-solo": 4, "solov2": 2}  # length of the towers of the light forms
# (blocks in the third stage, whether they are bottlenecks, channels of the first 3×3 convolution) → backbone
BACKBONES = {
    (2, False, 64): "resnet18",
    (6, False, 64): "resnet34",
    (6, True, 64): "resnet50",
    (23, True, 64): "resnet101",
    (23, True, 256): "resnext101_64x4d",
}
# names of the authors' program → those of mmdetection
AUTHORS = (
    ("bbox_head.ins_convs", f"{HEAD}mask_convs"),
    ("bbox_head.cate_convs.", f"{HEAD}cls_convs."),
    ("bbox_head.kernel_convs.", f"{HEAD}kernel_convs."),
    ("bbox_head.solo_ins_list.", f"{HEAD}conv_mask_list."),
    ("bbox_head.dsolo_ins_list_", f"{HEAD}conv_mask_list_"),
    ("bbox_head.solo_cate.", f"{HEAD}conv_cls."),
    ("bbox_head.dsolo_cate.", f"{HEAD}conv_cls."),
    ("bbox_head.solo_kernel.", f"{HEAD}conv_kernel."),
    ("mask_feat_head.conv_pred.0.", f"{BRANCH}conv_pred."),
    ("mask_feat_head.", BRANCH),
)
AUTHORS_ABOUT = {"origin": "WXinlong/SOLO", "licence": "its publisher's; the authors' own weights: non-commercial use"}


def recognises(state: Mapping[str, Tensor]) -> bool:
    """Return whether `state` is that of a model of the SOLO family."""
    return any(name.startswith((f"{HEAD}cls_convs.", "bbox_head.cate_convs.")) for name in state)


def read_file(state: Mapping[str, Tensor]) -> tuple[Layout, dict[str, Tensor]]:
    """Return the layout of a model of the SOLO family, and its tensors by mmdetection's names.

    Raises ModelError for a model that is none of the three kinds, and for another backbone.
    """
    authors = any(name.startswith("bbox_head.cate_convs.") for name in state)
    found = {_renamed(name) if authors else name: tensor for name, tensor in state.items()}
    settings = _settings(found).model_copy(update={"about": AUTHORS_ABOUT if authors else SETTINGS.about})
    layout = Layout(
        program="WXinlong/SOLO" if authors else "mmdetection",
        settings=settings,
        recognises=recognises,
        read_architecture=partial(_read_architecture, settings),
        source_names=source_names,
        ignored=(),
    )
    return layout, found


def _renamed(name: str) -> str:
    row = next((row for row in AUTHORS if name.startswith(row[0])), ("", ""))
    return row[1] + name.removeprefix(row[0])


def _settings(state: Mapping[str, Tensor]) -> Config:
    """The settings of the recipe of this kind and form, with the sizes of the tensors."""
    usual, light = next((recipes for sign, recipes in KINDS.items() if sign in state), ("", ""))
    if not usual:
        raise ModelError(f"missing tensors (1): {some(list(KINDS))[:200]}: not a complete model; fetch the file again")
    config = load_recipe(usual)
    convs = len(_numbers(state, rf"{re.escape(HEAD)}cls_convs\.(\d+)\.conv\.weight"))
    if light and convs == LIGHT_CONVS[config.model.method]:
        config = load_recipe(light)
    values = config.model_dump()
    values["model"]["head"] |= {"convs": convs, "channels": _first_side(state, f"{HEAD}cls_convs.0.conv.weight")}
    values["model"]["fpn_channels"] = _first_side(state, "neck.fpn_convs.0.conv.weight")
    values["model"]["solo"] |= _own_settings(state, convs)
    if config.model.method == "solov2":
        values["model"]["mask_branch"] |= {
            "channels": _first_side(state, f"{BRANCH}convs_all_levels.0.conv0.conv.weight"),
            "features": _first_side(state, f"{BRANCH}conv_pred.conv.weight"),
        }
    return Config.from_dict(values)


def _own_settings(state: Mapping[str, Tensor], convs: int) -> dict[str, Any]:
    """The section model.solo. The tensors of a SOLOv2 do not tell its grids."""
    bent = _numbers(state, rf"{re.escape(HEAD)}cls_convs\.(\d+)\.conv\.conv_offset\.weight")
    own: dict[str, Any] = {"deformable": "none" if not bent else "all" if len(bent) == convs > 1 else "last"}
    for kind, squared in (("conv_mask_list", True), ("conv_mask_list_x", False)):
        names = [f"{HEAD}{kind}.{level}.weight" for level in range(5)]
        if names[0] in state:
            sides = [_first_side(state, name) for name in names]
            own["grids"] = tuple(isqrt(side) if squared else side for side in sides)
            own["one_mask_tower"] = not squared and f"{HEAD}mask_convs.0.conv.weight" in state
    return own


def _numbers(state: Mapping[str, Tensor], pattern: str) -> set[int]:
    return {int(match[1]) for name in state if (match := re.fullmatch(pattern, name)) is not None}


def _first_side(state: Mapping[str, Tensor], name: str) -> int:
    """The number of outputs of a layer. Raises ModelError if there is no such layer."""
    if name not in state:
        raise ModelError(f"missing tensors (1): {name}: not a complete model; fetch the file again")
    if not state[name].ndim:
        raise ModelError(f"tensor {name} is a single number, expected a weight or bias; fetch the file again")
    return int(state[name].shape[0])


def _read_architecture(settings: Config, state: Mapping[str, Tensor]) -> Architecture:
    classes = _first_side(state, LOGITS)
    if not 1 <= classes <= MOST_CLASSES:
        raise ModelError(f"tensor {LOGITS} is made for {classes}, expected 1 to {MOST_CLASSES}; give another file")
    return Architecture(
        backbone=_backbone(state),
        deformable_interval=int("backbone.layer2.0.conv2.conv_offset.weight" in state),
        classes=classes,
        features=settings.model.mask_branch.features,
        width=settings.model.mask_head.width,
        semantic=False,
    )


def _backbone(state: Mapping[str, Tensor]) -> str:
    blocks = len(_numbers(state, r"backbone\.layer3\.(\d+)\.conv1\.weight"))
    size = (blocks, "backbone.layer1.0.conv3.weight" in state, _first_side(state, "backbone.layer1.0.conv2.weight"))
    if size not in BACKBONES:
        known = ", ".join(BACKBONES.values())
        raise ModelError(f"a backbone with {blocks} blocks in its third stage is none of the known ones: {known}")
    return BACKBONES[size]

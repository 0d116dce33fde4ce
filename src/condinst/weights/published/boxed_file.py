"""Files of AdelaiDet's BlendMask and MEInst: their architectures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

from torch import Tensor

from condinst.config import Config
from condinst.errors import ModelError
from condinst.recipes import load_recipe
from condinst.settings.model import MaskHeadConfig
from condinst.weights.published import adelaidet
from condinst.weights.published.boxed_names import (
    BASES,
    BODY,
    DLA,
    ENCODING,
    MEINST_HEAD,
    UNUSED_DLA,
    blendmask_names,
    deformable_names,
    meinst_names,
)
from condinst.weights.published.layout import Architecture, Layout, read_counts, resnet_name

PANOPTIC = ("panoptic_module.", "sem_seg_head.")
LAST = f"{BASES}seg_head.6.weight"
# number of pyramid levels → recipe of a published model with as many
RECIPES = {3: "blendmask-rt-r50-4x-syncbn-shtw", 4: "blendmask-550-r50-3x", 5: "blendmask-r50-1x"}
WIDTH = MaskHeadConfig().width  # both have no dynamic mask head


def recognises(state: Mapping[str, Tensor]) -> bool:
    """Return whether `state` has the names of a BlendMask or MEInst."""
    return any(name.startswith((BASES, MEINST_HEAD)) for name in state)


def read_file(state: Mapping[str, Tensor]) -> tuple[Layout, dict[str, Tensor]]:
    """Return the layout of a BlendMask or MEInst, and its tensors without those that the network does not use.

    Raises ModelError for a panoptic model and for one that is not complete.
    """
    other = next((name for name in state if name.startswith(PANOPTIC)), None)
    if other:
        raise ModelError(f"a panoptic BlendMask, by its tensor {other}; give a file of an instance segmentation")
    meinst = any(name.startswith(MEINST_HEAD) for name in state)
    layout = _meinst(state) if meinst else _blendmask(state)
    unused = tuple(BODY + name for name in UNUSED_DLA) if DLA + "0.weight" in state else ()
    return layout, {name: tensor for name, tensor in state.items() if not (unused and name.startswith(unused))}


def _blendmask(state: Mapping[str, Tensor]) -> Layout:
    dla, head = DLA + "0.weight" in state, adelaidet.HEAD
    branch = _count(state, f"{BASES}tower.", ".0.weight") - 1
    names = (f"{head}cls_logits.weight", f"{BASES}tower.{branch + 2}.weight", "top_layer.weight")
    counts = read_counts(state, *names)
    attention = math.isqrt(counts.filters // counts.features)
    if attention**2 * counts.features != counts.filters:
        raise ModelError(f"an attention of {counts.filters} numbers is none of {counts.features} squares")
    base = load_recipe(RECIPES[3 + sum(f"backbone.top_block.p{level}.weight" in state for level in (6, 7))])
    model = base.model.model_copy(
        update={
            "backbone": base.model.backbone.model_copy(update={"stride_in_1x1": not dla}),
            "head": base.model.head.model_copy(
                update={
                    "convs": _convs(state, f"{head}cls_tower."),
                    "shared_convs": _convs(state, f"{head}share_tower."),
                    "level_norms": f"{head}share_tower.1.0.weight" in state,
                }
            ),
            "mask_branch": base.model.mask_branch.model_copy(update={"convs": branch}),
            "blendmask": base.model.blendmask.model_copy(update={"attention": attention}),
        }
    )
    architecture = Architecture(
        backbone="dla34" if dla else _resnet(state),
        deformable_interval=0 if dla else adelaidet.deformable_interval(state, BODY),
        classes=counts.classes,
        features=counts.features,
        width=WIDTH,
        semantic=LAST in state,
    )
    names_of = partial(blendmask_names, convs=branch, dla=dla)
    return _layout(base.model_copy(update={"model": model}), architecture, names_of)


def _meinst(state: Mapping[str, Tensor]) -> Layout:
    names = (f"{MEINST_HEAD}cls_logits.weight", f"{MEINST_HEAD}cls_logits.weight", f"{ENCODING}components")
    counts = read_counts(state, names[0], names[2], f"{ENCODING}means")
    convs, base = _convs(state, f"{MEINST_HEAD}mask_tower."), load_recipe("meinst-r50-1x-none")
    deformable = any(name.startswith(f"{MEINST_HEAD}mask_tower.") and ".offset." in name for name in state)
    head = base.model.head.model_copy(update={"convs": convs, "deformable": deformable})
    code = base.model.meinst.model_copy(update={"code": counts.features, "resolution": math.isqrt(counts.filters)})
    model = base.model.model_copy(update={"head": head, "meinst": code})
    architecture = Architecture(
        backbone=_resnet(state),
        deformable_interval=adelaidet.deformable_interval(state, BODY),
        classes=counts.classes,
        features=base.model.mask_branch.features,
        width=WIDTH,
        semantic=False,
    )
    names_of = partial(deformable_names, last=3 * (convs - 1)) if deformable else meinst_names
    return _layout(base.model_copy(update={"model": model}), architecture, names_of)


def _layout(settings: Config, architecture: Architecture, source_names: object) -> Layout:
    return Layout(
        program="AdelaiDet",
        settings=settings.model_copy(update={"about": adelaidet.ABOUT}),
        recognises=recognises,
        read_architecture=lambda _: architecture,
        source_names=source_names,  # type: ignore[arg-type]
        ignored=(),
    )


def _resnet(state: Mapping[str, Tensor]) -> str:
    stage = f"{BODY}res4."
    return resnet_name({name.removeprefix(stage).split(".")[0] for name in state if name.startswith(stage)})


def _count(state: Mapping[str, Tensor], prefix: str, suffix: str) -> int:
    """The number of layers `prefix`N`suffix`."""
    return sum(
        name.startswith(prefix) and name.endswith(suffix) and name[len(prefix) : -len(suffix)].isdigit()
        for name in state
    )


def _convs(state: Mapping[str, Tensor], tower: str) -> int:
    """The number of convolutions of a tower, the deformable one included."""
    plain = sum(
        state[name].ndim == 4 for name in state if name.startswith(tower) and name.count(".") == tower.count(".") + 1
    )
    return plain + _count(state, tower, ".conv.weight")

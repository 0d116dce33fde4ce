"""Files of mmdetection's RTMDet-Ins: their size, their copies of shared tensors, and other kinds of RTMDet."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Size, Tensor

from condinst.errors import ModelError
from condinst.model.backbones.cspnext import SIZES
from condinst.model.heads.rtmdet_head import RTMDetHead
from condinst.recipes import load_recipe
from condinst.settings.model import ModelConfig
from condinst.weights.published.layout import Architecture, Layout, find_width, read_counts
from condinst.weights.published.mmdetection import SETTINGS
from condinst.weights.published.rtmdet import BRANCH, HEAD, alias_names, source_names
from condinst.weights.tensors import some

SHORT_HEAD = "head."  # prefix of the head in the mirrors' files, instead of HEAD
LOGITS, ANGLES = "rtm_cls.", "rtm_ang."  # tensors of every RTMDet, and of those for rotated boxes
OWN_CLASS_TOWER, OWN_BOX_TOWER = "head.class_tower.", "head.box_tower."
STEM, BLOCK = "backbone.stem.2.conv.weight", "backbone.stage2.1.blocks."
# (channels after the stem, blocks of the second stage) → name of the backbone
BACKBONES = {(size.channels[0], size.blocks[1]): name for name, size in SIZES.items()}
GIVE = "give a file of RTMDet-Ins"


def recognises(state: Mapping[str, Tensor]) -> bool:
    """Return whether `state` is that of any kind of RTMDet."""
    return any(f".{LOGITS}" in name for name in state)


def read_file(state: Mapping[str, Tensor]) -> tuple[Layout, dict[str, Tensor]]:
    """Return the layout of an RTMDet-Ins, and its tensors without the copies of shared ones.

    A file with a box tower that differs from the class tower gets a model with two towers. Raises ModelError for
    another kind of RTMDet, a size that is not published, and a copy that differs from what it is a copy of.
    """
    found = _with_long_names(state)
    _refuse_others(found)
    backbone = find_backbone(found)
    recipe = load_recipe(f"rtmdet-ins-{backbone.removeprefix('cspnext_')}")
    found, model = _without_copies(found, recipe.model)
    layout = Layout(
        program="mmdetection",
        settings=recipe.model_copy(update={"model": model, "about": SETTINGS.about}),
        recognises=recognises,
        read_architecture=partial(_read_architecture, backbone),
        source_names=source_names,
        ignored=("steps",),  # counter of a moving average
    )
    return layout, found


def find_backbone(state: Mapping[str, Tensor]) -> str:
    """Return the name of the backbone. Raises ModelError unless it is a CSPNeXt of a published size."""
    if STEM not in state or not state[STEM].ndim:
        raise ModelError(f"missing tensors (1): {STEM}: not a complete RTMDet-Ins; fetch the file again")
    blocks = {name.removeprefix(BLOCK).split(".")[0] for name in state if name.startswith(BLOCK)}
    size = (state[STEM].shape[0], len(blocks))
    if size not in BACKBONES:
        known = ", ".join(name.removeprefix("cspnext_") for name in BACKBONES.values())
        raise ModelError(
            f"a backbone with {size[0]} channels after the stem and {size[1]} blocks in its second stage is none of "
            f"the known sizes: {known}"
        )
    return BACKBONES[size]


def _with_long_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a mirror by mmdetection's names."""
    if any(name.startswith(HEAD) for name in state):
        return dict(state)
    return {
        HEAD + name.removeprefix(SHORT_HEAD) if name.startswith(SHORT_HEAD) else name: state[name] for name in state
    }


def _refuse_others(state: Mapping[str, Tensor]) -> None:
    if any(f".{ANGLES}" in name for name in state):
        raise ModelError(f"an RTMDet for rotated boxes, which has no masks; {GIVE}")
    other = next((name for name in state if f".{LOGITS}" in name and not name.startswith(HEAD + LOGITS)), None)
    if other:
        raise ModelError(f"an RTMDet of another program, by its tensor {some([other])}; {GIVE} of mmdetection")
    if not any(name.startswith((f"{HEAD}rtm_kernel.", BRANCH)) for name in state):
        raise ModelError(f"an RTMDet that finds boxes alone: it has no rtm_kernel and no mask_head; {GIVE}")


def _read_architecture(backbone: str, state: Mapping[str, Tensor]) -> Architecture:
    names = (f"{HEAD}{LOGITS}0.weight", f"{BRANCH}projection.weight", f"{HEAD}rtm_kernel.0.weight")
    counts = read_counts(state, *names)
    return Architecture(
        backbone=backbone,
        deformable_interval=0,
        classes=counts.classes,
        features=counts.features,
        width=find_width(counts.filters, counts.features),
        semantic=False,
    )


def _without_copies(found: dict[str, Tensor], model: ModelConfig) -> tuple[dict[str, Tensor], ModelConfig]:
    """Return the tensors without the copies of shared ones, and the model with one tower or two."""
    two_towers = _with_towers(model, separate=True)
    towers = _tower_shapes(two_towers)
    kept = dict(found)
    for own, shape in towers.items():
        (source,) = source_names(own)
        for name in alias_names(own, separate_box_tower=True):
            copy = kept.pop(name, None)
            if copy is not None and source in kept and not _same(copy, kept[source], shape):
                raise ModelError(f"{name} differs from {source}, but the levels share the tensor; the file is unusable")
    boxes = {own: shape for own, shape in towers.items() if own.startswith(OWN_BOX_TOWER)}
    if any(_differs(own, shape, kept) for own, shape in boxes.items()):
        return kept, two_towers
    for own in boxes:
        kept.pop(source_names(own)[0], None)
    return kept, _with_towers(model, separate=False)


def _tower_shapes(model: ModelConfig) -> dict[str, Size]:
    """Return the shapes of the tensors of the class tower and the box tower by their names in the whole network."""
    with torch.device("meta"):
        head = RTMDetHead(model.fpn_channels, model.head, classes=1, filters=1)
    shapes = {f"head.{name}": tensor.shape for name, tensor in head.state_dict().items()}
    return {name: shape for name, shape in shapes.items() if name.startswith((OWN_CLASS_TOWER, OWN_BOX_TOWER))}


def _with_towers(model: ModelConfig, separate: bool) -> ModelConfig:
    return model.model_copy(update={"head": model.head.model_copy(update={"separate_box_tower": separate})})


def _differs(own: str, shape: Size, kept: Mapping[str, Tensor]) -> bool:
    """Return whether a tensor of the box tower differs from that of the class tower. Counters do not count."""
    (box,), (of_class,) = source_names(own), source_names(OWN_CLASS_TOWER + own.removeprefix(OWN_BOX_TOWER))
    both = box in kept and of_class in kept and shape != ()
    return both and not _same(kept[box], kept[of_class], shape)


def _same(one: Tensor, other: Tensor, shape: Size) -> bool:
    """Return whether two tensors are equal. A file may state any size, so only those of the right one are read."""
    if one.shape != other.shape or one.shape != shape:
        return one.shape == other.shape
    return torch.equal(one.double().nan_to_num(), other.double().nan_to_num())

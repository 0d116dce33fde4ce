"""Describe a model without its tensors: its parts and their numbers of parameters."""

from __future__ import annotations

from typing import NamedTuple

import torch

from condinst.config import Config
from condinst.methods.choose import build_network
from condinst.model.condinst import filter_layout
from condinst.recipes import load_recipe
from condinst.settings.model import ModelConfig
from condinst.structures import MASK_FEATURE_STRIDE
from condinst.weights.catalogue import Checkpoint
from condinst.weights.classes import COCO_CLASSES

PARTS = {"fpn": "pyramid", "mask_branch": "mask branch", "semantic_head": "semantic head"}  # parts with a clearer name


class Outline(NamedTuple):
    """Description of a model.

    filters: numbers that the controller predicts for one instance. strides: strides of the pyramid levels in pixels.
    parameters: number of parameters of each part, and their total.
    """

    backbone: str
    pyramid: str
    head: str
    mask_branch: str
    mask_head: str
    filters: int
    strides: tuple[int, ...]
    input: str
    score: str
    parameters: dict[str, int]


class Words(NamedTuple):
    """The fields of `Outline` that depend on the method."""

    pyramid: str
    head: str
    mask_branch: str
    mask_head: str
    filters: int


def outline(config: Config) -> Outline:
    """Describe the model of `config`. Raises ModelError if the backbone cannot be built."""
    model = config.model
    words = {"condinst": _condinst, "rtmdet-ins": _rtmdet_ins, "yolact": _yolact}[model.method](model)
    return Outline(
        backbone=_backbone(model),
        **words._asdict(),
        strides=model.geometry.strides,
        input=_input(config),
        score=_score(config),
        parameters=count_parameters(model),
    )


def count_parameters(model: ModelConfig) -> dict[str, int]:
    """Count the parameters of each part, largest first, and their "total". The function allocates no tensors."""
    with torch.device("meta"):
        network = build_network(model)
    counts = {
        PARTS.get(name, name): sum(parameter.numel() for parameter in part.parameters())
        for name, part in network.named_children()
    }
    return dict(sorted(counts.items(), key=lambda item: -item[1])) | {"total": sum(counts.values())}


def expected_config(checkpoint: Checkpoint) -> Config:
    """Return the settings of a published model: those of its recipe, with COCO's classes."""
    config = load_recipe(checkpoint.recipe)
    model = config.model.model_copy(update={"classes": COCO_CLASSES})
    return config.model_copy(update={"model": model, "about": checkpoint.about})


def _backbone(model: ModelConfig) -> str:
    backbone = model.backbone
    norms = {"frozen": "fixed", "affine": "of fixed statistics", "batch": "of the batch"}[backbone.norm]
    stride = ", stride on the first 1×1" if backbone.stride_in_1x1 else ""
    interval = backbone.deformable_interval
    blocks = "every block" if interval == 1 else f"one block in {interval}"
    return f"{backbone.name}, norms {norms}{stride}" + (f", deformable in {blocks}" if interval else "")


def _condinst(model: ModelConfig) -> Words:
    repeats = f"BiFPN, {model.bifpn_repeats} repeats" if model.pyramid == "bifpn" else "FPN"
    head = f"FCOS, two towers {_tower(model)}"
    return Words(f"{repeats}, {model.fpn_channels} channels", head, *_dynamic(model))


def _rtmdet_ins(model: ModelConfig) -> Words:
    blocks = f"{model.pafpn_blocks} block{'s' * (model.pafpn_blocks != 1)} in each stage"
    pyramid = f"PAFPN, {blocks}, {model.fpn_channels} channels"
    if model.head.separate_box_tower:
        head = f"RTMDet, towers for classes, boxes and filters {_tower(model)}"
    else:
        head = f"RTMDet, a tower for classes and boxes and one for filters {_tower(model)}"
    return Words(pyramid, head, *_dynamic(model))


def _yolact(model: ModelConfig) -> Words:
    branch = model.mask_branch
    return Words(
        pyramid=f"FPN, {model.fpn_channels} channels",
        head=f"three anchors in each cell, a tower {_tower(model)}",
        mask_branch=f"{branch.convs} convolutions, {branch.channels} channels, {branch.features} prototypes at stride "
        f"{MASK_FEATURE_STRIDE // 2}{_semantic(model)}",
        mask_head="a sum of the prototypes, cut to the box",
        filters=branch.features,
    )


def _tower(model: ModelConfig) -> str:
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


def _input(config: Config) -> str:
    size = config.input
    padded = (
        f"padded to {size.longer}×{size.longer}"
        if size.letterbox
        else f"padded to a multiple of {config.model.size_divisor}"
    )
    return f"{config.model.channel_order}, shorter side {size.shorter}, longer at most {size.longer} px, {padded}"


def _score(config: Config) -> str:
    if not config.model.geometry.centerness:
        return "class"
    return "√(class · centerness)" if config.detect.score_root else "class · centerness"

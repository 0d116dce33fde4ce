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


def outline(config: Config) -> Outline:
    """Describe the model of `config`. Raises ModelError if the backbone cannot be built."""
    model = config.model
    return Outline(
        backbone=_backbone(model),
        pyramid=_pyramid(model),
        head=_head(model),
        mask_branch=_mask_branch(model),
        mask_head=_mask_head(model),
        filters=filter_layout(model).count,
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


def _pyramid(model: ModelConfig) -> str:
    if model.pyramid == "pafpn":
        blocks = f"{model.pafpn_blocks} block{'s' * (model.pafpn_blocks != 1)} in each stage"
        return f"PAFPN, {blocks}, {model.fpn_channels} channels"
    if model.pyramid == "fpn":
        return f"FPN, {model.fpn_channels} channels"
    return f"BiFPN, {model.bifpn_repeats} repeats, {model.fpn_channels} channels"


def _head(model: ModelConfig) -> str:
    layers = f"of {model.head.convs} convolutions, {model.head.channels} channels"
    if model.method == "condinst":
        return f"FCOS, two towers {layers}"
    if model.head.separate_box_tower:
        return f"RTMDet, towers for classes, boxes and filters {layers}"
    return f"RTMDet, a tower for classes and boxes and one for filters {layers}"


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


def _mask_branch(model: ModelConfig) -> str:
    features, branch = filter_layout(model).features, model.mask_branch
    if not features:
        return "none"
    semantic = ", semantic head in training" if model.semantic else ""
    return (
        f"{branch.convs} convolutions, {branch.channels} channels, {features} features at stride "
        f"{MASK_FEATURE_STRIDE}{semantic}"
    )


def _mask_head(model: ModelConfig) -> str:
    head, sizes = model.mask_head, filter_layout(model).sizes
    layers = "→".join(str(size) for size in sizes)
    return f"{head.depth} layers {layers}, coordinates {head.coordinates}, masks at stride {head.mask_out_stride}"

"""Describe a model without its tensors: its parts and their numbers of parameters."""

from __future__ import annotations

from typing import NamedTuple

import torch

from condinst.config import Config
from condinst.methods.choose import build_network, method_of
from condinst.recipes import load_recipe
from condinst.settings.model import ModelConfig
from condinst.weights.catalogue import Checkpoint
from condinst.weights.classes import COCO_CLASSES

PARTS = {"fpn": "pyramid", "mask_branch": "mask branch", "semantic_head": "semantic head"}  # parts with a clearer name


class Outline(NamedTuple):
    """Description of a model.

    pyramid, head, mask_branch, mask_head, filters: see `condinst.model.descriptions.Description`. strides: strides of
    the pyramid levels in pixels. parameters: number of parameters of each part, and their total.
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
        **method_of(model).describe(model)._asdict(),
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


def _input(config: Config) -> str:
    size = config.input
    if size.stretch:
        return f"{config.model.channel_order}, {size.longer}×{size.longer} px, whatever the ratio of the sides"
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

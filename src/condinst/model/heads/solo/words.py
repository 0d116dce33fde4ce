"""Words for the parts of the networks of the SOLO family."""

from __future__ import annotations

from condinst.model.descriptions import Description, tower
from condinst.settings.model import ModelConfig


def describe_solo(model: ModelConfig) -> Description:
    """The parts of a SOLO."""
    head = f"SOLO, {_grids(model)}, towers for classes and masks {tower(model)}{_deformable(model)}"
    return Description(_pyramid(model), head, "none", "a map for each cell, at twice the size of its level", 0)


def describe_decoupled_solo(model: ModelConfig) -> Description:
    """The parts of a Decoupled SOLO."""
    towers = "classes and masks" if model.solo.one_mask_tower else "classes, rows and columns"
    head = f"Decoupled SOLO, {_grids(model)}, towers for {towers} {tower(model)}{_deformable(model)}"
    mask_head = "the map of the cell's row times that of its column, at twice the size of its level"
    return Description(_pyramid(model), head, "none", mask_head, 0)


def describe_solov2(model: ModelConfig) -> Description:
    """The parts of a SOLOv2."""
    branch = model.mask_branch
    return Description(
        _pyramid(model),
        f"SOLOv2, {_grids(model)}, towers for classes and filters {tower(model)}{_deformable(model)}",
        f"{branch.channels} channels, {branch.features} features at stride 4",
        f"1 layer {branch.features}→1, no coordinates, masks at stride 4",
        branch.features,
    )


def _pyramid(model: ModelConfig) -> str:
    return f"FPN, {model.fpn_channels} channels"


def _grids(model: ModelConfig) -> str:
    return "grids of " + ", ".join(f"{grid}×{grid}" for grid in model.solo.grids)


def _deformable(model: ModelConfig) -> str:
    return {"none": "", "last": ", the last one deformable", "all": ", deformable"}[model.solo.deformable]

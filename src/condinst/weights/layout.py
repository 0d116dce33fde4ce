"""What is needed to know about another program's way of writing CondInst down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor

from condinst.config import Config, MaskHeadConfig
from condinst.errors import ModelError
from condinst.structures import FilterLayout

Renaming = tuple[tuple[str, str], ...]  # (our prefix, theirs), the first match counts
WIDEST = 64


class Architecture(NamedTuple):
    """What the tensors of a file tell about the model they belong to."""

    backbone: str  # timm's name
    deformable_interval: int  # as in the settings
    classes: int
    features: int
    width: int
    semantic: bool


class Layout(NamedTuple):
    """One program's file format.

    settings: how its models see and predict; the architecture is filled in from the tensors. source_names: our tensor's
    name → the names of those it is made of; several are single numbers that become one vector. ignored: tensors that
    say nothing about the network.
    """

    program: str
    settings: Config
    recognises: Callable[[Mapping[str, Tensor]], bool]
    read_architecture: Callable[[Mapping[str, Tensor]], Architecture]
    source_names: Callable[[str], tuple[str, ...]]
    ignored: tuple[str, ...]


def rename(name: str, renaming: Renaming) -> str:
    """`name` with its prefix replaced by theirs. Every name of ours has a row, which a test holds for each layout."""
    own, theirs = next(row for row in renaming if name.startswith(row[0]))
    return theirs + name.removeprefix(own)


def shape_of(state: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    """Shape of a tensor the architecture is read from; raises ModelError if it is not there or has no dimension."""
    if name not in state:
        raise ModelError(f"missing tensor {name}: not a complete CondInst; fetch the file again")
    shape = tuple(state[name].shape)
    if not shape:
        raise ModelError(f"tensor {name} is a single number, expected a weight or bias; fetch the file again")
    return shape


def resnet_name(third_stage: set[str]) -> str:
    """timm's name of a ResNet by the blocks of its third stage; raises ModelError for other than 50 and 101 layers."""
    names = {6: "resnet50", 23: "resnet101"}
    if len(third_stage) not in names:
        raise ModelError(f"a backbone with {len(third_stage)} blocks in its third stage is not ResNet-50 or ResNet-101")
    return names[len(third_stage)]


def find_width(filters: int, features: int) -> int:
    """Width of a dynamic mask head of published depth that has so many filters; raises ModelError if none has."""
    depth = MaskHeadConfig().depth
    for width in range(1, WIDEST + 1):
        if FilterLayout(features, 2, depth, width).count == filters:
            return width
    raise ModelError(f"a controller of {filters} numbers fits no mask head of depth {depth} with {features} features")

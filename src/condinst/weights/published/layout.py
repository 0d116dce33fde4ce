"""Description of another program's file format for CondInst and RTMDet-Ins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor

from condinst.config import Config
from condinst.errors import ModelError
from condinst.settings.model import MaskHeadConfig
from condinst.structures import FilterLayout
from condinst.weights.tensors import some

Renaming = tuple[tuple[str, str], ...]  # (our prefix, their prefix); the first match counts
WIDEST, MOST_FEATURES, MOST_CLASSES = 64, 64, 20_000


class Architecture(NamedTuple):
    """Architecture of a model, inferred from the tensors in its file."""

    backbone: str  # timm's name, or that of a CSPNeXt
    deformable_interval: int  # the setting of this name
    classes: int
    features: int
    width: int
    semantic: bool


class Layout(NamedTuple):
    """One program's file format.

    settings: input and prediction settings of the program's models; the architecture comes from the tensors.
    source_names: name of our tensor → names of the source tensors; several source tensors are scalars that become one
    vector. ignored: tensors that are not part of the network.
    """

    program: str
    settings: Config
    recognises: Callable[[Mapping[str, Tensor]], bool]
    read_architecture: Callable[[Mapping[str, Tensor]], Architecture]
    source_names: Callable[[str], tuple[str, ...]]
    ignored: tuple[str, ...]


def rename(name: str, renaming: Renaming) -> str:
    """Replace our prefix of `name` by their prefix. A test checks that each layout has a row for every name."""
    own, theirs = next(row for row in renaming if name.startswith(row[0]))
    return theirs + name.removeprefix(own)


class Counts(NamedTuple):
    """Sizes that the tensors of a file imply. filters: numbers that the controller predicts for one instance."""

    classes: int
    features: int
    filters: int


def read_counts(state: Mapping[str, Tensor], classes: str, features: str, filters: str) -> Counts:
    """Return the first dimensions of the three tensors with these names.

    Raises ModelError if a tensor is missing or has no dimension, or if a size is too large for a model.
    """
    names = (classes, features, filters)
    missing = [name for name in names if name not in state]
    if missing:
        raise ModelError(
            f"missing tensors ({len(missing)}): {some(missing)}: not a complete model; fetch the file again"
        )
    scalar = next((name for name in names if not state[name].ndim), None)
    if scalar:
        raise ModelError(f"tensor {scalar} is a single number, expected a weight or bias; fetch the file again")
    counts = Counts(*(state[name].shape[0] for name in names))
    for name, count, most in ((classes, counts.classes, MOST_CLASSES), (features, counts.features, MOST_FEATURES)):
        if not 1 <= count <= most:
            raise ModelError(f"tensor {name} is made for {count}, expected 1 to {most}; give another file")
    return counts


def resnet_name(third_stage: set[str]) -> str:
    """Return timm's name of a ResNet by the blocks of its third stage. Raises ModelError unless 50 or 101 layers."""
    names = {6: "resnet50", 23: "resnet101"}
    if len(third_stage) not in names:
        raise ModelError(f"a backbone with {len(third_stage)} blocks in its third stage is not ResNet-50 or ResNet-101")
    return names[len(third_stage)]


def find_width(filters: int, features: int) -> int:
    """Return the width of a mask head of published depth with `filters` numbers. Raises ModelError without a match."""
    depth = MaskHeadConfig().depth
    for width in range(1, WIDEST + 1):
        if FilterLayout(features, 2, depth, width).count == filters:
            return width
    raise ModelError(f"a controller of {filters} numbers fits no mask head of depth {depth} with {features} features")

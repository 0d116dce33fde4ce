"""Convert a state dict of another program's model to condinst's settings and tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from condinst.config import Config
from condinst.errors import ModelError, UsageError
from condinst.weights.classes import COCO_CLASSES
from condinst.weights.published import adelaidet, boxed_file, mmdetection, rtmdet_file, solo_file, yolact_file
from condinst.weights.published.layout import Architecture, Layout
from condinst.weights.tensors import expected_shapes, misfits, not_finite, not_plain, some

READERS = (rtmdet_file, yolact_file, boxed_file, solo_file)  # files whose layout depends on their tensors
LAYOUTS = (adelaidet.FPN_LAYOUT, adelaidet.BIFPN_LAYOUT, mmdetection.LAYOUT)
PARALLEL = "module."  # DistributedDataParallel's prefix
COUNTER = ".num_batches_tracked"  # tensor of a batch norm; frozen norms have none


class Published(NamedTuple):
    """A converted model. tensors: complete state dict of build_network(config.model), float32."""

    config: Config
    tensors: dict[str, Tensor]


def read_published(state: Mapping[str, Tensor], source: str, classes: tuple[str, ...] = ()) -> Published:
    """Convert a ResNet CondInst of AdelaiDet or mmdetection, or a model of READERS, to settings and tensors.

    state: tensors by their published names, also in half precision or with the prefix of DistributedDataParallel.
    source: origin of the tensors, for messages. classes: names by label; by default COCO's names for 80 classes, else
    numbers. Raises ModelError if the program is not recognised, or if tensors are missing, unknown, of another shape or
    type, or not finite. The function checks the shape of a tensor before it allocates memory for the tensor.
    """
    try:
        found = _without_prefix(state)
        reader = next((reader for reader in READERS if reader.recognises(found)), None)
        layout, found = reader.read_file(found) if reader else (find_layout(found), found)
        config = _configure(layout, layout.read_architecture(found), classes)
        return Published(config, _gather(found, layout, config))
    except (ModelError, UsageError) as error:  # the settings come from the file: the file is at fault, not the command
        raise ModelError(f"{source}: {error}") from None


def find_layout(state: Mapping[str, Tensor]) -> Layout:
    """Return the layout of the program that wrote the tensors. Raises ModelError for an unknown program."""
    for layout in LAYOUTS:
        if layout.recognises(state):
            return layout
    programs = " or ".join(sorted({layout.program for layout in LAYOUTS}))
    raise ModelError(
        f"not a CondInst of {programs}, and no model of another method: no tensor has a name of theirs; "
        "give another file"
    )


def _without_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    strange = not_plain(state)
    if strange:
        raise ModelError(f"sparse, quantized, complex or without numbers: {strange}; save the model as plain tensors")
    found = {name.removeprefix(PARALLEL): tensor for name, tensor in state.items()}
    if len(found) < len(state):
        twice = some([name for name in state if PARALLEL + name in state])
        raise ModelError(f"with and without the prefix '{PARALLEL}': {twice}; give a file of one model")
    return found


def _widen(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _configure(layout: Layout, architecture: Architecture, classes: tuple[str, ...]) -> Config:
    names = classes or (COCO_CLASSES if architecture.classes == len(COCO_CLASSES) else _numbered(architecture.classes))
    if len(names) != architecture.classes:
        raise ModelError(f"{architecture.classes} classes in the tensors, {len(names)} names; give a name for each")
    values = layout.settings.model_dump()
    model = values["model"]
    model |= {"classes": names, "semantic": architecture.semantic}
    model["backbone"] |= {"name": architecture.backbone, "deformable_interval": architecture.deformable_interval}
    model["mask_branch"]["features"] = architecture.features
    model["mask_head"]["width"] = architecture.width
    return Config.from_dict(values)


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"class {label}" for label in range(count))


def _gather(found: dict[str, Tensor], layout: Layout, config: Config) -> dict[str, Tensor]:
    """Check every published tensor and return condinst's state dict."""
    own = expected_shapes(config.model)
    sources = {name: layout.source_names(name) for name in own}
    expected = {
        source: own[name] if len(names) == 1 else torch.Size([1]) for name, names in sources.items() for source in names
    }
    offered = {name: _as_vector(tensor, expected.get(name)) for name, tensor in found.items()}
    for name in layout.ignored:
        offered.pop(name, None)
    for name in expected:
        if name.endswith(COUNTER):
            offered.setdefault(name, torch.tensor(0))
    problem = misfits(offered, expected)
    if problem:
        raise ModelError(f"{problem}; give a file of a published architecture")
    offered = {name: _widen(tensor) for name, tensor in offered.items()}
    broken = not_finite(offered)
    if broken:
        raise ModelError(f"NaN or infinity in {broken}; the file is unusable, fetch it again")
    return {
        name: torch.cat([offered[source] for source in names]) if len(names) > 1 else offered[names[0]]
        for name, names in sources.items()
    }


def _as_vector(tensor: Tensor, expected: torch.Size | None) -> Tensor:
    """Return a scalar as a vector of one number, as the other program writes it."""
    return tensor.reshape(1) if not tensor.ndim and expected == (1,) else tensor

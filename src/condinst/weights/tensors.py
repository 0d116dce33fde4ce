"""Check that the tensors of a file fit a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Size, Tensor

from condinst.errors import ModelError, first_line, one_line
from condinst.methods.choose import build_network
from condinst.settings.model import ModelConfig

SHOWN = 10  # names listed in an error message
LONGEST = 200  # characters of a listed name
METHODS = {
    "condinst": "a CondInst",
    "rtmdet-ins": "an RTMDet-Ins",
    "solo": "a SOLO",
    "decoupled-solo": "a Decoupled SOLO",
    "solov2": "a SOLOv2",
    "yolact": "a YOLACT",
    "blendmask": "a BlendMask",
    "meinst": "an MEInst",
    "solov2-fcos": "SOLOv2's masks on FCOS",
    "yolact-fcos": "YOLACT's masks on FCOS",
}
SIGNS = {  # tensors of one method alone, or of those that the rows before it leave
    "blendmask": "mask_branch.fine.",
    "meinst": "mask_code.",
    "solov2-fcos": "mask_branch.ending.",
    "condinst": "head.centerness.",
    "rtmdet-ins": "head.controller_tower.",
    "solo": "head.masks.",
    "decoupled-solo": "head.columns.",
    "solov2": "head.filters.",
    "yolact": "head.coefficients.",
}
ALIKE = {"yolact-fcos": "condinst"}  # methods whose tensors have the names of another one's
KINDS = {
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
}


def expected_shapes(model: ModelConfig) -> dict[str, Size]:
    """Return the shape of every tensor of a model with these settings, by name. The function allocates no tensors.

    Raises ModelError if the model cannot be built.
    """
    try:
        with torch.device("meta"):
            return {name: tensor.shape for name, tensor in build_network(model).state_dict().items()}
    except (RuntimeError, TypeError, ValueError, ArithmeticError, MemoryError) as error:
        reason = first_line(error)
        raise ModelError(f"no network can be built from its settings ({reason:.{LONGEST}}); correct them") from None


def misfits(found: Mapping[str, Tensor], expected: Mapping[str, Size]) -> str:
    """Return the first names of missing, unknown or misshapen tensors; empty if all tensors fit."""
    return misshapen({name: tensor.shape for name, tensor in found.items()}, expected)


def misshapen(found: Mapping[str, Size], expected: Mapping[str, Size]) -> str:
    """Return the same as `misfits`, from the shapes of the tensors."""
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    shapes = [
        f"{name} is {list(found[name])}, expected {list(shape)}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    problems = [("missing tensors", missing), ("unknown tensors", extra), ("tensors of another shape", shapes)]
    return "; ".join(f"{what} ({len(names)}): {some(names)}" for what, names in problems if names)


def other_method(names: Iterable[str], method: str) -> str:
    """Return what is wrong if the names are those of a model of another method than `method`; empty otherwise."""
    names = tuple(names)
    held = next((kind for kind, sign in SIGNS.items() if any(name.startswith(sign) for name in names)), method)
    return (
        ""
        if held == ALIKE.get(method, method)
        else f"the tensors are those of {METHODS[held]}, the settings are for {METHODS[method]}"
    )


def not_plain(tensors: Mapping[str, Tensor]) -> str:
    """Return the first names of tensors other than dense arrays of real numbers; empty without such tensors."""
    return some([name for name, tensor in tensors.items() if not _plain(tensor)])


def not_finite(tensors: Mapping[str, Tensor]) -> str:
    """Return the first names of tensors with NaN or infinity; empty without such tensors."""
    return some([name for name, tensor in tensors.items() if not _finite(tensor)])


def some(names: list[str]) -> str:
    """Return the first names and the number of further names."""
    more = f", … ({len(names) - SHOWN} more)" if len(names) > SHOWN else ""
    return ", ".join(_printable(name) for name in names[:SHOWN]) + more


def _printable(name: str) -> str:
    """Shorten a name from a file and remove line breaks."""
    return one_line(name if len(name) <= LONGEST else f"{name[:LONGEST]}…")


def _plain(tensor: Tensor) -> bool:
    dense = tensor.layout == torch.strided and not tensor.is_nested
    return dense and not tensor.is_meta and tensor.dtype in KINDS


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())

"""Do the tensors of a file fit a model?"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Size, Tensor

SHOWN = 10  # names in an error before it only counts


def misfits(found: Mapping[str, Tensor], expected: Mapping[str, Size]) -> str:
    """What is missing, unknown or of another shape, with the first few names; empty if all fit."""
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    shapes = [
        f"{name} is {list(found[name].shape)}, expected {list(shape)}"
        for name, shape in expected.items()
        if name in found and found[name].shape != shape
    ]
    problems = [("missing tensors", missing), ("unknown tensors", extra), ("tensors of another shape", shapes)]
    return "; ".join(f"{what} ({len(names)}): {some(names)}" for what, names in problems if names)


def not_finite(tensors: Mapping[str, Tensor]) -> str:
    """The first few names of tensors that hold NaN or infinity; empty if none does."""
    return some([name for name, tensor in tensors.items() if not _finite(tensor)])


def some(names: list[str]) -> str:
    """The first few names and how many more there are."""
    more = f", … ({len(names) - SHOWN} more)" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())

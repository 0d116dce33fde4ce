"""Find classes by name or by label."""

from __future__ import annotations

from collections.abc import Iterable

from condinst.errors import UsageError, some


def choose_labels(classes: str | int | Iterable[str | int], names: dict[int, str]) -> tuple[int, ...]:
    """The labels of class names or labels, sorted, without repeats. Raises UsageError for an unknown class."""
    labels = {name: label for label, name in names.items()}
    wanted = [classes] if isinstance(classes, str | int) else list(classes)
    found = {one: labels.get(one) if isinstance(one, str) else one if one in names else None for one in wanted}
    unknown = [one for one, label in found.items() if label is None]
    if unknown:
        raise UsageError(f"classes: there is no class {unknown[0]!r}; the classes are {some(list(labels))}")
    return tuple(sorted({int(label) for label in found.values() if label is not None}))

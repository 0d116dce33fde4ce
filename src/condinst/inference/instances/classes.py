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


def read_labels(words: Iterable[str], names: dict[int, str]) -> tuple[int, ...]:
    """The labels of texts that each hold a class, or several names or numbers separated by commas.

    A text that is the name of a class counts as one, even with a comma. Raises UsageError for an unknown class.
    """
    known = set(names.values())
    parts = [part.strip() for word in words for part in ([word] if word in known else word.split(","))]
    return choose_labels([int(part) if part.isdecimal() and part not in known else part for part in parts], names)

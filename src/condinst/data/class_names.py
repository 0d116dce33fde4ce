"""Finds class names that look alike. Such names differ only in case, blanks, invisible characters or Unicode form."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

# white space, control characters and format characters, such as the zero-width space
UNSEEN = frozenset({"Zs", "Zl", "Zp", "Cc", "Cf"})


def same_class_name(one: str, other: str) -> bool:
    """Return whether two different names look alike."""
    return one != other and _look(one) == _look(other)


def alike(names: Iterable[str]) -> list[tuple[str, ...]]:
    """The names that look alike, each group in the order of `names`: "cell", "Cell", "cell " and "cel\\u200bl"."""
    groups: dict[str, dict[str, None]] = {}
    for name in names:
        groups.setdefault(_look(name), {})[name] = None
    return [tuple(group) for group in groups.values() if len(group) > 1]


def show_names(names: Iterable[str]) -> str:
    """Return the names in quotes, with escapes for invisible characters."""
    return ", ".join(f"'{_escaped(name)}'" for name in names)


def _look(name: str) -> str:
    """Return the name without case, blanks, underscores and invisible characters."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(sign for sign in folded if sign != "_" and unicodedata.category(sign) not in UNSEEN)


def _escaped(name: str) -> str:
    """Names in decomposed form show their combining characters, because the composed form looks the same."""
    return "".join(
        sign if sign == " " or (sign.isprintable() and not unicodedata.combining(sign)) else ascii(sign)[1:-1]
        for sign in name
    )

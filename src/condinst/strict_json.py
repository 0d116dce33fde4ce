"""Read JSON. A key that stands twice in one object is an error: one of its two values would be lost in silence."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any


class RepeatedKeyError(ValueError):
    """An object has the same key twice."""


def parse_json(content: str | bytes) -> Any:
    """Parse JSON. Raises ValueError for other text and for repeated keys, RecursionError for deep nesting."""
    return json.loads(content, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        key, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise RepeatedKeyError(f"an object has the key {key!a:.40} twice")
    return record

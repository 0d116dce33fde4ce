"""Checks of the values in a JSON record; each returns the value, now of a known type, or raises RecordError."""

from __future__ import annotations

from typing import Any

from condinst.data.findings import RecordError

LARGEST_COORDINATE = 1e6  # pixels; also refuses NaN and infinities
CORRECT = "correct or remove the record"

Record = dict[str, Any]  # one JSON object, before it is checked


def integer(record: Record, key: str) -> int:
    """record[key], a whole number and no truth value."""
    value = record.get(key)
    if type(value) is not int:
        raise RecordError("bad-record", f"'{key}' must be a whole number, got {kind(value)}", CORRECT)
    return value


def text(record: Record, key: str) -> str:
    """record[key], text that any file system and terminal takes."""
    value = record.get(key)
    if not isinstance(value, str) or not value:
        raise RecordError("bad-record", f"'{key}' must be text, got {kind(value)}", CORRECT)
    if any(ord(sign) < 32 or 0xD800 <= ord(sign) < 0xE000 for sign in value):
        raise RecordError("bad-record", f"'{key}' holds control characters or half characters: {value!a:.60}", CORRECT)
    return value


def numbers(values: list[Any], key: str, fault: str = "bad-record") -> list[float]:
    """`values` as finite numbers of pixels; `fault` is the kind of finding otherwise."""
    for value in values:
        if type(value) not in (int, float) or not abs(value) <= LARGEST_COORDINATE:
            raise RecordError(fault, f"'{key}' must hold finite numbers of pixels, got {value!a:.40}", CORRECT)
    return [float(value) for value in values]


def kind(value: Any) -> str:
    """What to call a value that should have been another."""
    return {dict: "an object", list: "a list", type(None): "nothing"}.get(type(value), f"{value!a:.40}")

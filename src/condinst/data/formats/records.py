"""Reads JSON and checks the values of its records. Each check returns a value of a known type or raises RecordError."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from condinst.data.findings import RecordError
from condinst.foreign import missing_content_of
from condinst.strict_json import parse_json

LARGEST_COORDINATE = 1e6  # pixels; the limit also refuses NaN and infinities
WHOLE = re.compile(r"-?[0-9]{1,18}")
CORRECT = "correct or remove the record"

Record = dict[str, Any]  # one JSON object, unchecked


def integer(record: Record, key: str) -> int:
    """Return record[key] as a whole number; true and false are no numbers.

    7.0 and "7" are 7, because some programs write such ids.
    """
    value = record.get(key)
    if (type(value) is float and value.is_integer()) or (isinstance(value, str) and WHOLE.fullmatch(value)):
        return int(value)
    if type(value) is not int:
        raise RecordError("bad-record", f"'{key}' must be a whole number, got {kind(value)}", CORRECT)
    return value


def text(record: Record, key: str) -> str:
    """Return record[key] as text that any file system and terminal accepts."""
    value = record.get(key)
    if not isinstance(value, str) or not value.strip():
        raise RecordError("bad-record", f"'{key}' must be text, got {kind(value)}", CORRECT)
    return printable(value, f"'{key}'", CORRECT)


def printable(value: str, where: str, remedy: str) -> str:
    """Return `value`. Raises RecordError for control characters and half characters."""
    if any(ord(sign) < 32 or 0xD800 <= ord(sign) < 0xE000 for sign in value):
        raise RecordError("bad-record", f"{where} holds control characters or half characters: {value!a:.60}", remedy)
    return value


def numbers(values: list[Any], key: str, fault: str = "bad-record") -> list[float]:
    """Return `values` as finite numbers of pixels. Raises RecordError of the kind `fault` for other values."""
    for value in values:
        if type(value) not in (int, float) or not abs(value) <= LARGEST_COORDINATE:
            raise RecordError(fault, f"'{key}' must hold finite numbers of pixels, got {value!a:.40}", CORRECT)
    return [float(value) for value in values]


def coordinates(values: list[Any], key: str, fault: str = "bad-record") -> NDArray[np.float64]:
    """Return `values` as `numbers` does, as one array: (N,)."""
    if set(map(type, values)) <= {int, float}:
        try:
            array = np.array(values, dtype=np.float64)
        except OverflowError:  # a whole number of hundreds of digits
            array = np.array([np.nan])
        if (np.abs(array) <= LARGEST_COORDINATE).all():
            return array
    return np.array(numbers(values, key, fault), dtype=np.float64)  # raises an error with the wrong value


def load_json(file: Path, remedy: str) -> Any:
    """Return the content of the file.

    Raises RecordError for invalid JSON. An object with the same key twice also raises, because one value would be lost.
    """
    try:
        return parse_json(file.read_bytes())
    except OSError as error:
        raise RecordError("bad-file", f"cannot be read ({error.strerror or error})", remedy) from None
    except (ValueError, RecursionError) as error:  # bad JSON, bad UTF-8, too long integers, too deep nesting
        reason = missing_content_of(file) or f"not valid JSON ({error})"
        raise RecordError("bad-file", reason, remedy) from None


def kind(value: Any) -> str:
    """Return the name of a value's type, for messages."""
    return {dict: "an object", list: "a list", type(None): "nothing"}.get(type(value), f"{value!a:.40}")

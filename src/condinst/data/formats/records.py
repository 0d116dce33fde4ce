"""Reading JSON, and checks of the values in its records: each returns a value of a known type or raises RecordError."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from condinst.data.findings import RecordError

LARGEST_COORDINATE = 1e6  # pixels; also refuses NaN and infinities
WHOLE = re.compile(r"-?[0-9]{1,18}")
CORRECT = "correct or remove the record"

Record = dict[str, Any]  # one JSON object, before it is checked


def integer(record: Record, key: str) -> int:
    """record[key], a whole number and no truth value; 7.0 and "7" are 7, as some programs write their ids."""
    value = record.get(key)
    if (type(value) is float and value.is_integer()) or (isinstance(value, str) and WHOLE.fullmatch(value)):
        return int(value)
    if type(value) is not int:
        raise RecordError("bad-record", f"'{key}' must be a whole number, got {kind(value)}", CORRECT)
    return value


def text(record: Record, key: str) -> str:
    """record[key], text that any file system and terminal takes."""
    value = record.get(key)
    if not isinstance(value, str) or not value.strip():
        raise RecordError("bad-record", f"'{key}' must be text, got {kind(value)}", CORRECT)
    return printable(value, f"'{key}'", CORRECT)


def printable(value: str, where: str, remedy: str) -> str:
    """`value`, without control characters and halves of characters."""
    if any(ord(sign) < 32 or 0xD800 <= ord(sign) < 0xE000 for sign in value):
        raise RecordError("bad-record", f"{where} holds control characters or half characters: {value!a:.60}", remedy)
    return value


def numbers(values: list[Any], key: str, fault: str = "bad-record") -> list[float]:
    """`values` as finite numbers of pixels; `fault` is the kind of finding otherwise."""
    for value in values:
        if type(value) not in (int, float) or not abs(value) <= LARGEST_COORDINATE:
            raise RecordError(fault, f"'{key}' must hold finite numbers of pixels, got {value!a:.40}", CORRECT)
    return [float(value) for value in values]


def coordinates(values: list[Any], key: str, fault: str = "bad-record") -> NDArray[np.float64]:
    """As `numbers`, in one array: (N,)."""
    if set(map(type, values)) <= {int, float}:
        try:
            array = np.array(values, dtype=np.float64)
        except OverflowError:  # a whole number of hundreds of digits
            array = np.array([np.nan])
        if (np.abs(array) <= LARGEST_COORDINATE).all():
            return array
    return np.array(numbers(values, key, fault), dtype=np.float64)  # names the value that is wrong


def load_json(file: Path, remedy: str) -> Any:
    """What the file holds. Raises RecordError, also for an object with the same key twice: one value would be lost."""
    try:
        return json.loads(file.read_bytes(), object_pairs_hook=_unique)
    except OSError as error:
        raise RecordError("bad-file", f"cannot be read ({error.strerror or error})", remedy) from None
    except (ValueError, RecursionError) as error:  # bad JSON, bad UTF-8, too long integers, too deep nesting
        raise RecordError("bad-file", f"not valid JSON ({error})", remedy) from None


def _unique(pairs: list[tuple[str, Any]]) -> Record:
    record = dict(pairs)
    if len(record) != len(pairs):
        key, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"an object has the key {key!a:.40} twice")
    return record


def kind(value: Any) -> str:
    """What to call a value that should have been another."""
    return {dict: "an object", list: "a list", type(None): "nothing"}.get(type(value), f"{value!a:.40}")

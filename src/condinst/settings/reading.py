"""Read settings from a file, apply overrides, and write the error messages."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from condinst.errors import UsageError, one_line
from condinst.safe_yaml import parse_yaml, read_yaml
from condinst.settings.elsewhere import ELSEWHERE
from condinst.settings.kinds import show


def read_settings(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, not yet validated.

    Raises UsageError if the file cannot be read, is not valid YAML or holds something other than a mapping.
    """
    try:
        values = read_yaml(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UsageError(f"{path}: not valid YAML ({error}); correct it") from None
    if not isinstance(values, dict):
        found = "is empty" if values is None else f"holds a {type(values).__name__}"
        raise UsageError(f"{path}: {found}, not settings; write lines as 'train: {{lr: 0.01}}', or restore the file")
    return values


def set_value(values: dict[str, Any], text: str) -> None:
    """Set the value of an override `section.key=value` in nested dicts; the value is YAML.

    Raises UsageError for a malformed override and for an unknown key.
    """
    key, sign, raw = text.partition("=")
    if not sign:
        raise UsageError(f"override '{text}': expected key=value, for example train.lr=0.01")
    place: Any = values
    *sections, last = key.strip().split(".")
    for name in sections:
        place = _child(place, name, key)
    _child(place, last, key)
    try:
        place[last] = parse_yaml(raw)
    except ValueError as error:
        reason = str(error).removeprefix("line 1: ")
        raise UsageError(f"override '{text:.200}': the value is not valid YAML ({reason})") from None


def _child(place: Any, name: str, key: str) -> Any:
    if not isinstance(place, dict) or name not in place:
        known = sorted(place) if isinstance(place, dict) else []
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(known) or 'nothing'}"
        if name in ELSEWHERE:
            hint = f"did you mean {ELSEWHERE[name]}?"
        raise UsageError(f"override '{key}': there is no setting '{name}'; {hint}")
    return place[name]


def first_problem(error: ValidationError) -> str:
    """The first problem of a validation in one line: the setting, the problem, and the number of other problems."""
    first = error.errors()[0]
    place = one_line(".".join(str(part) for part in first["loc"])[:200]) or "settings"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "value_error":  # a validator of ours: its message names the value
        return f"{place}: {first['ctx']['error']}{more}"
    problem = (
        "expected settings as 'key: value' lines below it"
        if first["type"] in {"model_type", "dict_type"}
        else first["msg"]
    )
    return f"{place}: {problem}, got {show(first['input'])}{more}"

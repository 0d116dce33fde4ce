"""Errors that a user can cause or fix. Each has a one-line message and an exit code for the command line."""

from __future__ import annotations

import re
from collections.abc import Sequence

# The messages of the different allocators.
NO_MEMORY = re.compile("(out of|not enough|can't allocate) memory")


class CondinstError(Exception):
    """An error while running (exit code 1). The message is one line: what is wrong, where, and what to do."""

    exit_code = 1


class UsageError(CondinstError):
    """An argument, an option or a setting is wrong (exit code 2)."""

    exit_code = 2


class DataError(CondinstError):
    """An image or an annotation file cannot be used (exit code 3)."""

    exit_code = 3


class NoPictureError(DataError):
    """A file is not a picture in a known format."""


class TooLargeError(DataError):
    """A picture has too many pixels, or the memory does not suffice for it."""


class ModelError(CondinstError):
    """A model, its weights or its configuration cannot be used (exit code 4)."""

    exit_code = 4


class PictureWarning(UserWarning):
    """condinst left a picture out, or read it in a way that the user should know about."""


def first_line(said: object) -> str:
    """The first line of an exception's message, or the name of its type if the message is empty."""
    return (str(said) or type(said).__name__).splitlines()[0]


def some(names: Sequence[str], most: int = 8) -> str:
    """The first `most` names, then the number of the others: "a, b and 3 more"."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def one_line(text: str) -> str:
    """Make untrusted text safe to print on one line of a terminal.

    Each white-space character becomes a space. Other control characters are escaped. `hide_secrets` hides passwords and
    tokens.
    """
    return "".join(
        char if char.isprintable() else " " if char.isspace() else char.encode("unicode_escape").decode("ascii")
        for char in hide_secrets(text)
    )


def out_of_memory(error: BaseException) -> bool:
    """Return whether an exception of Python, NumPy or torch means that there is not enough memory."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(NO_MEMORY.search(str(error))))


# As part of a file path, an address keeps one of its two slashes: images/https:/host/a.png
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://|https?:/)(\S+)", re.IGNORECASE)
_CLOSING = ")]}>,.;:'\"…"  # punctuation after an address in a sentence
_TOKEN = re.compile(r"\b(hf|ghp|gho|ghs|glpat|sk|pk|xoxb|AKIA)[_-]?[A-Za-z0-9_-]{16,}")
_VALUE = re.compile(r"([?&;#])([^?&;#=]*)(=?)([^?&;#]*)")
_HARMLESS = re.compile(r"\d{1,9}|[\w .%-]{1,80}\.(png|jpe?g|tiff?|bmp|webp|gif|jp2|pth|pkl|safetensors)", re.IGNORECASE)
_SECRET_KEY = re.compile(r"tok|key|sig|secret|pass|pwd|pin|auth|cred|session|code|jwt|cookie|otp", re.IGNORECASE)
HIDDEN = "***"


def hide_secrets(text: str) -> str:
    """Replace possible secrets in `text` with "***".

    Secrets are user names and passwords in addresses, tokens, and values in the query of an address. A value in a query
    stays if it is a number or the name of a picture or model file, and its key does not name a secret.
    """
    return _TOKEN.sub(HIDDEN, _ADDRESS.sub(lambda match: match[1] + _hide_in_address(match[2]), text))


def _hide_in_address(address: str) -> str:
    """`address` begins behind the scheme."""
    closing = address[len(address.rstrip(_CLOSING)) :]
    rest = address.removesuffix(closing)
    cut = min((rest.find(mark) for mark in "/?#" if mark in rest), default=len(rest))
    host = rest[:cut].rpartition("@")[2]
    path, query = rest[cut:], ""
    marks = [path.find(mark) for mark in "?#;" if mark in path]
    if marks:
        path, query = path[: min(marks)], path[min(marks) :]
    return f"{host}{path}{_VALUE.sub(_hide_value, query)}{closing}"


def _hide_value(match: re.Match[str]) -> str:
    mark, key, equals, value = match.groups()
    if not equals:  # in ?abc, the key itself may be the secret
        return mark + (key if not key or _HARMLESS.fullmatch(key) else HIDDEN)
    harmless = not value or (_HARMLESS.fullmatch(value) and not _SECRET_KEY.search(key))
    return f"{mark}{key}={value if harmless else HIDDEN}"

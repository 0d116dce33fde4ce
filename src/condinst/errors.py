"""Errors a user can cause. Each carries one clear line and the exit code the command line returns for it."""

from __future__ import annotations

import re
from collections.abc import Sequence

NO_MEMORY = re.compile("(out of|not enough|can't allocate) memory")  # in the words of each allocator


class CondinstError(Exception):
    """Something went wrong while running (exit code 1); the message is one line: what, where, remedy."""

    exit_code = 1


class UsageError(CondinstError):
    """The command or a configuration key was wrong (exit code 2)."""

    exit_code = 2


class DataError(CondinstError):
    """An image or an annotation file cannot be used (exit code 3)."""

    exit_code = 3


class ModelError(CondinstError):
    """A model, its weights or its configuration cannot be used (exit code 4)."""

    exit_code = 4


class PictureWarning(UserWarning):
    """A picture was left out, or was read in a way that its user should know of."""


def first_line(said: object) -> str:
    """What an exception, or the reason in one, says, without the lines that follow; its type's name if nothing."""
    return (str(said) or type(said).__name__).splitlines()[0]


def some(names: Sequence[str], most: int = 8) -> str:
    """The first `most` names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def one_line(text: str) -> str:
    """`text` from a stranger, fit for a terminal: white space becomes a blank, other control characters are escaped.

    Passwords and tokens in addresses are hidden (see `hide_secrets`).
    """
    return "".join(
        char if char.isprintable() else " " if char.isspace() else char.encode("unicode_escape").decode("ascii")
        for char in hide_secrets(text)
    )


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception of Python, NumPy or torch says that the memory does not suffice."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(NO_MEMORY.search(str(error))))


_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_CLOSING = ")]}>,.;:'\"…"  # after an address in a sentence, no part of it
_TOKEN = re.compile(r"\b(hf|ghp|gho|ghs|glpat|sk|pk|xoxb|AKIA)[_-]?[A-Za-z0-9_-]{16,}")
_VALUE = re.compile(r"([?&;#])([^?&;#=]*)(=?)([^?&;#]*)")
_HARMLESS = re.compile(r"\d{1,9}|[\w .%-]{1,80}\.(png|jpe?g|tiff?|bmp|webp|gif|jp2|pth|pkl|safetensors)", re.IGNORECASE)
_SECRET_KEY = re.compile(r"tok|key|sig|secret|pass|pwd|pin|auth|cred|session|code|jwt|cookie|otp", re.IGNORECASE)
HIDDEN = "***"


def hide_secrets(text: str) -> str:
    """`text` without what could be a password: user names and passwords in addresses, values in their queries, tokens.

    A value in a query stays only if it is a number or the name of a picture or model file, and its key names no secret.
    """
    return _TOKEN.sub(HIDDEN, _ADDRESS.sub(lambda match: _hide_in_address(match[0]), text))


def _hide_in_address(address: str) -> str:
    closing = address[len(address.rstrip(_CLOSING)) :]
    scheme, _, rest = address.removesuffix(closing).partition("://")
    cut = min((rest.find(mark) for mark in "/?#" if mark in rest), default=len(rest))
    host = rest[:cut].rpartition("@")[2]
    path, query = rest[cut:], ""
    marks = [path.find(mark) for mark in "?#;" if mark in path]
    if marks:
        path, query = path[: min(marks)], path[min(marks) :]
    return f"{scheme}://{host}{path}{_VALUE.sub(_hide_value, query)}{closing}"


def _hide_value(match: re.Match[str]) -> str:
    mark, key, equals, value = match.groups()
    if not equals:  # ?abc: the key itself may be the secret
        return mark + (key if not key or _HARMLESS.fullmatch(key) else HIDDEN)
    harmless = not value or (_HARMLESS.fullmatch(value) and not _SECRET_KEY.search(key))
    return f"{mark}{key}={value if harmless else HIDDEN}"

"""Errors a user can cause. Each carries one clear line and the exit code the command line returns for it."""

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


def first_line(said: object) -> str:
    """What an exception, or the reason in one, says, without the lines that follow; its type's name if nothing."""
    return (str(said) or type(said).__name__).splitlines()[0]


def some(names: Sequence[str], most: int = 8) -> str:
    """The first `most` names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def one_line(text: str) -> str:
    """`text` from a stranger, fit for a terminal: any white space is a blank, other control characters are escaped."""
    return "".join(
        char if char.isprintable() else " " if char.isspace() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception of Python, NumPy or torch says that the memory does not suffice."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(NO_MEMORY.search(str(error))))

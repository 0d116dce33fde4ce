"""What the command line answers to a mistyped command: control characters escaped, and the option that was meant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from condinst.cli.elsewhere import ELSEWHERE
from condinst.errors import one_line

ALIKE = 0.75  # of difflib's ratio: --colour and --color, not --colour and --out


@contextmanager
def plain_usage_errors() -> Iterator[None]:
    """Within, the messages of typer's usage errors become fit for a terminal and suggest only options that are alike.

    The classes come from click or from typer's own copy of it, by version: what they have in common is used here.
    """
    try:
        yield
    except Exception as error:
        if hasattr(error, "format_message") and hasattr(error, "message"):
            _mend(error)
        raise


def _mend(error: Any) -> None:
    message = one_line(str(error.message))
    option = getattr(error, "option_name", None)
    if getattr(error, "possibilities", None) is not None or option:
        context = getattr(error, "ctx", None)
        known = [name for param in context.command.params for name in param.opts] if context else []
        meant = ELSEWHERE.get(context.command.name or "", {}).get(str(option)) if context else None
        alike = [meant] if meant else get_close_matches(str(option), known, 1, ALIKE)
        if hasattr(error, "possibilities"):
            error.possibilities = None
            message = message.rstrip(".") + (f"; {_hint(alike[0])}" if alike else "")
    error.message = message


def _hint(meant: str) -> str:
    """An option or a setting is a question, other words are what to know."""
    return f"did you mean {meant}?" if " " not in meant else f"here it is {meant}"

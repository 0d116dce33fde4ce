"""Lines for the terminal. Names from files, folders and servers pass through here, so that none can control it."""

from __future__ import annotations

import typer

from condinst.errors import one_line


def say(text: str, err: bool = False) -> None:
    """Print one line on standard output, or on standard error: control characters escaped, passwords hidden."""
    typer.echo(one_line(text), err=err)

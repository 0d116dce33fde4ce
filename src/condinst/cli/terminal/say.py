"""Print lines on the terminal. Control characters in names from files, folders and servers are escaped."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from condinst.errors import one_line


def say(text: str, err: bool = False) -> None:
    """Print one line on standard output, or on standard error: control characters escaped, passwords hidden."""
    typer.echo(one_line(text), err=err)


@contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Print each Python warning as one line on standard error, without its place in the code."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        say(f"note: {message}", err=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield

"""Ctrl-C and SIGTERM for work whose libraries may swallow a KeyboardInterrupt."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from condinst.cli.terminal.say import say
from condinst.errors import CondinstError

INTERRUPTED, TERMINATED = 130, 143


@contextmanager
def stoppable(told: Callable[[], str]) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end a block: print the line `told()`, and exit with 130 or 143."""
    from condinst.engine.stop import Terminated, terminable

    try:
        with terminable():
            yield
    except KeyboardInterrupt as stop:
        say(told(), err=True)
        raise typer.Exit(TERMINATED if isinstance(stop, Terminated) else INTERRUPTED) from None


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Make Ctrl-C and SIGTERM raise KeyboardInterrupt within the block. Only the main thread can handle signals.

    The yielded function raises KeyboardInterrupt again if an earlier one was swallowed. Call it between two steps.
    PyTorch's exporters swallow some, or turn them into an error of their own.
    """
    asked = False

    def end(_: int, __: FrameType | None) -> None:
        nonlocal asked
        asked = True
        raise KeyboardInterrupt

    def check() -> None:
        if asked:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield check
    except CondinstError:
        check()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

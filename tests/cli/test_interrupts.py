"""Ctrl-C that a library swallows, or turns into an error of its own, still ends the work."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable

import pytest
import typer

from condinst.cli.terminal.interrupts import interruptible, stoppable
from condinst.errors import ModelError

SIGNALS = [signal.SIGINT, signal.SIGTERM]


def work(step: Callable[[], None]) -> list[str]:
    """Two steps. Returns those that were begun."""
    begun: list[str] = []
    with contextlib.suppress(KeyboardInterrupt), interruptible() as check:
        begun.append("first")
        step()
        check()
        begun.append("second")
    return begun


@pytest.mark.parametrize("number", SIGNALS)
def test_at_once_or_swallowed(number: signal.Signals) -> None:
    before = signal.getsignal(number)

    def swallow() -> None:
        with contextlib.suppress(BaseException):
            signal.raise_signal(number)

    assert work(lambda: None) == ["first", "second"]
    assert work(lambda: signal.raise_signal(number)) == ["first"]
    assert work(swallow) == ["first"]
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", SIGNALS)
def test_turned_into_an_error(number: signal.Signals) -> None:
    def turn() -> None:
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            raise ModelError("cannot be exported") from None

    assert work(turn) == ["first"]


def test_an_error_alone_stays() -> None:
    with pytest.raises(ModelError, match="broken"), interruptible():
        raise ModelError("broken")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_exit_code_and_the_line(number: signal.Signals, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as stop:
        stoppable(lambda: "stopped")(signal.raise_signal)(number)  # a context manager decorates functions, too
    assert (stop.value.exit_code, capsys.readouterr().err) == (code, "stopped\n")

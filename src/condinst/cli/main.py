"""The command `condinst`. An error that a user can cause becomes one line and an exit code."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from condinst.allocator import keep_freed_memory
from condinst.cli.benchmark import benchmark
from condinst.cli.convert import convert
from condinst.cli.data import data
from condinst.cli.export import export
from condinst.cli.info import info
from condinst.cli.models import models
from condinst.cli.predict.command import predict
from condinst.cli.serve import serve
from condinst.cli.terminal.interrupts import INTERRUPTED
from condinst.cli.terminal.say import say
from condinst.cli.terminal.usage import Verb, plain_usage_errors
from condinst.cli.train import train
from condinst.cli.val import val
from condinst.errors import CondinstError, PictureWarning

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk is full, the quota is used up, the file is too large


class Verbs(TyperGroup):
    """Print an error that a user can cause as one line and exit with its code. A bug keeps its traceback."""

    def make_context(self, *args: Any, **options: Any) -> Any:
        with plain_usage_errors():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        try:
            with plain_usage_errors(), _warnings_as_notes():
                done = super().invoke(ctx)
            sys.stdout.flush()  # here, where an error can be reported, not when the interpreter ends
            return done
        except CondinstError as error:
            say(f"error: {error}", err=True)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            say("interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except OSError as error:
            if error.errno not in FULL or error.filename is not None:
                raise
            _drop_output()
            say(f"error: standard output: cannot be written ({error.strerror}); free some space", err=True)
            raise typer.Exit(1) from None


@contextmanager
def _warnings_as_notes() -> Iterator[None]:
    """Print a PictureWarning as one line on standard error. Python shows other warnings as usual."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", PictureWarning)
        other = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], filename: str, lineno: int, *more: Any) -> None:
            if issubclass(category, PictureWarning):
                say(f"note: {message}", err=True)
            else:
                other(message, category, filename, lineno, *more)

        warnings.showwarning = show  # type: ignore[assignment]
        yield


def _drop_output() -> None:
    """Discard buffered output, so that writing the output does not fail again when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


app = typer.Typer(
    cls=Verbs,
    name="condinst",
    epilog="Exit codes: 0 ok, 1 failed while running, 2 wrong usage, 3 bad data, 4 bad model, 130 interrupted.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (predict, val, train, models, info, convert, export, benchmark, serve):
    app.command(cls=Verb)(verb)
app.add_typer(data)


def _show_version(wanted: bool) -> None:
    if wanted:
        from condinst import __version__

        say(f"condinst {__version__}")
        raise typer.Exit()


@app.callback()
def condinst(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """CondInst instance segmentation: predict, validate and train.

    Example: condinst predict photo.jpg --model nuclei
    """
    keep_freed_memory()


def main() -> None:
    """Run the command line and exit with its code."""
    app()

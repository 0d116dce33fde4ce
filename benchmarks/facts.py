"""Measured facts: their layout in JSON, how a file of them is read, and a program as a command."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import typer
from pydantic import BaseModel, ConfigDict, ValidationError

from condinst.errors import CondinstError, DataError

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"


class Facts(BaseModel):
    """A frozen group of facts; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Kind = TypeVar("Kind", bound=Facts)


def read_facts(path: Path, kind: type[Kind]) -> Kind:
    """A scores.json; raises DataError if it is missing or laid out otherwise."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{path}: {place or 'file'}: {first['msg']}; write it again with its command") from None


def run_command(main: Callable[..., None]) -> None:
    """`main` as a command; an error a user can cause ends it in one line and its own exit code."""
    application = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    application.command()(main)
    try:
        application()
    except CondinstError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)

"""`condinst predict --workers N`: results in shards, for very many pictures."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from condinst.cli.terminal.interrupts import stoppable
from condinst.cli.terminal.say import say, warnings_as_notes

if TYPE_CHECKING:
    from condinst.many.plan import Place, Plan, Slice
    from condinst.many.workers import Make
    from condinst.predictor import Predictor

TIFF = (".tif", ".tiff")  # a list of millions names files of other kinds, which are not opened for their pages


class ShardFormat(StrEnum):
    """File formats of shards."""

    jsonl = "jsonl"
    parquet = "parquet"


class Wanted(NamedTuple):
    """What a run does. part: the shards of this machine."""

    folder: Path
    workers: int
    size: int
    format: str
    part: str | None
    resume: bool
    batch: int
    classes: list[int] | None
    recursive: bool
    header: dict[str, Any]


def refuse(given: dict[str, object]) -> None:
    """Raise UsageError for an option that runs with --workers do not have."""
    from condinst.errors import UsageError

    for option, value in given.items():
        if value:
            raise UsageError(f"{option} is not for --workers, which writes shards; leave it out")


def predict_many(sources: list[str], make: Make, ready: Predictor, wanted: Wanted) -> None:
    """Predict all pictures in shards. make: makes a predictor of a process. ready: one that forks share.

    Raises DataError if pictures were left out, CondinstError for a shard that is not done.
    """
    from condinst.errors import CondinstError, DataError
    from condinst.lock import locked
    from condinst.many.plan import remove_parts
    from condinst.many.rows import check_format
    from condinst.many.workers import Job, predict_shards

    check_format(wanted.format)
    part = read_part(wanted.part)
    plan = _plan(sources, wanted, part)
    place = plan.folder / f".slice-{part.machine + 1}-of-{part.machines}"
    pictures = left_out = instances = undone = 0
    begun = time.perf_counter()
    with locked(place, "predicting these shards"):
        remove_parts(plan, part)
        todo = plan.waiting(part)
        whole = len(range(part.machine, plan.shards, part.machines))
        say(f"{plan.pictures} pictures in {plan.shards} shards; to do here: {len(todo)} of {whole} shards", err=True)
        told = predict_shards(Job(plan, make, wanted.batch, wanted.classes), todo, wanted.workers, ready)

        def stopped() -> str:
            return f"stopped with {whole - len(plan.waiting(part))} of {whole} shards done; to continue, add --resume"

        try:
            with stoppable(stopped), warnings_as_notes():
                for number, one in enumerate(told, start=1):
                    if one.error:
                        undone += 1
                        say(f"not done: {plan.path(one.shard).name}: {one.error}", err=True)
                    pictures, left_out = pictures + one.done.pictures, left_out + one.done.left_out
                    instances += one.done.instances
                    _show(number, len(todo), pictures, time.perf_counter() - begun)
        finally:
            told.close()  # type: ignore[attr-defined]  # a generator
    seconds = time.perf_counter() - begun
    say(
        f"{pictures} pictures in {seconds:.1f} s ({pictures / max(seconds, 1e-6):.2f} pictures/s with {wanted.workers} "
        f"workers), {instances} instances; results: {plan.folder}/results-*.{plan.format}",
        err=True,
    )
    if undone:
        raise CondinstError(f"{undone} shards are not done; see above, then run the same command with --resume")
    if left_out:
        raise DataError(f"{left_out} of {pictures} pictures could not be used; their rows say why ('left_out')")


def read_part(text: str | None) -> Slice:
    """'2/8' → the second of eight machines. Raises UsageError."""
    from condinst.errors import UsageError
    from condinst.many.plan import Slice

    if text is None:
        return Slice()
    found = re.fullmatch("([0-9]{1,6})/([0-9]{1,6})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UsageError(f"--shard {text}: expected NUMBER/COUNT, such as 1/8 … 8/8")
    return Slice(int(found[1]) - 1, int(found[2]))


def _plan(sources: list[str], wanted: Wanted, part: Slice) -> Plan:
    """The plan of the run: a new one, or with --resume or --shard the one that the folder has."""
    from condinst.errors import DataError, UsageError
    from condinst.lock import locked
    from condinst.many.plan import FORMAT, begin, has_plan, read

    settings = {**wanted.header, "shard_size": wanted.size, FORMAT: wanted.format}
    with locked(wanted.folder, "planning"):
        if has_plan(wanted.folder):
            if not wanted.resume and part.machines == 1:
                raise UsageError(f"{wanted.folder}: holds a run; add --resume to continue it, or choose another --out")
            return read(wanted.folder, settings)
        if wanted.folder.is_dir() and any(path.name != ".condinst.lock" for path in wanted.folder.iterdir()):
            raise UsageError(f"{wanted.folder}: holds other files; choose another --out")
        plan = begin(wanted.folder, _list(sources, wanted.recursive), wanted.size, settings)
        if not plan.pictures:
            raise DataError("nothing to predict: the sources hold no pictures")
        return plan


def _list(sources: list[str], recursive: bool) -> Iterator[Place]:
    """Each picture once for each time that it is named, and each page of a TIFF. A list is read line by line."""
    from condinst.errors import DataError
    from condinst.sources.lists import is_list, read_list
    from condinst.sources.places import expand_sources

    for source in sources:
        if is_list(source):
            for line in read_list(source):
                yield from _pages(line)
            continue
        found = expand_sources([source], None, recursive)
        for line in found.failures:
            raise DataError(line)
        for one in found.sources:
            yield str(one.place) if one.page is None else (str(one.place), one.page)
        for note in found.notes:
            say(f"note: {note}", err=True)


def _pages(line: str) -> Iterator[Place]:
    """The pictures of a line of a list: the line itself, or the pages of a TIFF.

    A TIFF that cannot be read stays as it is, and its row in the results says why.
    """
    from condinst.data.pictures.pages import choose_pages
    from condinst.errors import DataError

    chosen = None
    if line.lower().endswith(TIFF) and "://" not in line:
        with suppress(DataError):
            chosen = choose_pages(Path(line), None)
    yield from [line] if chosen is None else [(line, page) for page in chosen.wanted]


def _show(done: int, shards: int, pictures: int, seconds: float) -> None:
    if sys.stderr.isatty():
        rate = pictures / max(seconds, 1e-6)
        left = seconds / done * (shards - done)
        typer.echo(f"\r{done}/{shards} shards, {rate:.1f} pictures/s, {left:.0f} s left   ", nl=False, err=True)
        if done == shards:
            typer.echo(err=True)

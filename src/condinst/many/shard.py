"""Predict the pictures of one shard and write its file."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from condinst.data.pictures.image import Page
from condinst.errors import CondinstError
from condinst.inference.instances.records import rounded
from condinst.inference.result import Result
from condinst.many.plan import Place, Plan, part_path
from condinst.many.rows import Write, writer
from condinst.predictor import Predictor


class Done(NamedTuple):
    """What a shard holds: pictures, those left out, and instances."""

    pictures: int
    left_out: int
    instances: int


def predict_shard(predictor: Predictor, plan: Plan, shard: int, batch: int, classes: Any) -> Done:
    """Predict a shard. Its file gets its name when it is complete and on the disk. Raises CondinstError."""
    sources, temporary = plan.sources(shard), part_path(plan, shard)
    try:
        with temporary.open("wb") as file:
            with writer(plan.format, file) as write:
                done = write_records(write, predictor, sources, batch, classes)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, plan.path(shard))
        _sync(plan.folder)
    except OSError as error:
        raise CondinstError(f"{plan.path(shard)}: cannot be written ({error.strerror or error})") from None
    finally:
        temporary.unlink(missing_ok=True)
    return done


def openable(source: Place) -> Callable[[], Any]:
    """A function that returns the picture, so that no name is read as a pattern, a folder or a film."""
    if not isinstance(source, str):
        return lambda: Page(Path(source[0]), source[1])
    return lambda: source if "://" in source else Path(source)


def write_records(
    write: Write,
    predictor: Predictor,
    sources: Sequence[Place],
    batch: int,
    classes: Any,
    open: Callable[[Any], Any] = openable,
) -> Done:
    """Write a record for each source, in order: its size and its annotations, or why it was left out.

    open: returns what the predictor reads for a source.
    """
    left_out = instances = 0
    for record in _records(predictor, sources, batch, classes, open):
        left_out += "left_out" in record
        instances += len(record.get("annotations", ()))
        write(record)
    return Done(len(sources), left_out, instances)


def _records(
    predictor: Predictor, sources: Sequence[Place], batch: int, classes: Any, open: Callable[[Any], Any]
) -> Iterator[dict[str, Any]]:
    ids = {label: label + 1 for label in predictor.names}
    waiting = deque(sources)
    ready: deque[dict[str, Any]] = deque()

    def leave_out(_: object, error: CondinstError) -> None:
        ready.append({**_named(waiting.popleft()), "left_out": str(error)})

    for result in predictor.stream(map(open, sources), batch, leave_out, classes=classes):
        yield from ready
        ready.clear()
        yield _record(waiting.popleft(), result, ids)
    yield from ready


def _named(source: Place) -> dict[str, Any]:
    return {"source": source} if isinstance(source, str) else {"source": source[0], "page": source[1]}


def _record(source: Place, result: Result, ids: dict[int, int]) -> dict[str, Any]:
    height, width = result.orig_shape
    found = [{key: value for key, value in rounded(one).items() if key != "image_id"} for one in result.to_coco(1, ids)]
    return {**_named(source), "width": width, "height": height, "annotations": found}


def _sync(folder: Path) -> None:
    """Write the new name of a file to the disk. Windows cannot open folders."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

"""The loop of `condinst predict` over the images, and its end after an interruption or an error."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from condinst.cli.terminal.interrupts import stoppable
from condinst.cli.terminal.say import say, warnings_as_notes

if TYPE_CHECKING:
    from condinst.cli.predict.printed import Printer
    from condinst.cli.results.run import Run
    from condinst.errors import CondinstError
    from condinst.predictor import Predictor


def predict_all(
    run: Run, predictor: Predictor, printer: Printer, batch: int, classes: list[int] | None, json: bool, kept: bool
) -> int:
    """Predict the remaining images and always close the results. Return the number of files that were not written.

    kept: whether the results stay in a folder, so that --resume can continue.
    """

    def stopped() -> str:
        again = "; to continue, run the same command with --resume" if kept else ""
        return f"stopped after {run.finished} of {len(run.sources)} images{again}"

    with stoppable(stopped):
        try:
            with warnings_as_notes():
                unwritten = _predict_each(run, predictor, printer, batch, classes, kept)
        except BaseException as stop:
            _close(run, json, stop)
            raise
    _close(run, json)
    return unwritten


def _predict_each(
    run: Run, predictor: Predictor, printer: Printer, batch: int, classes: list[int] | None, kept: bool
) -> int:
    from condinst.cli.predict.printed import TileProgress, left_out
    from condinst.cli.results.folder import TILES
    from condinst.cli.results.run import failure

    unwritten = 0
    ids = {label: label + 1 for label in predictor.names}
    waiting: deque[int] = deque()  # sources that were read and have no result yet

    def read() -> Iterator[Any]:
        for index, source in run.work(batch):
            waiting.append(index)
            yield source.open

    def leave_out(_: object, error: CondinstError) -> None:
        index = waiting.popleft()
        run.leave_out(index, str(error))
        left_out(run.sources[index].name, str(error))

    journal = run.folder / TILES if kept else None
    tiles = TileProgress()
    for result in predictor.stream(read(), batch, leave_out, journal, tiles, classes=classes):
        index = waiting.popleft()
        if run.is_done(index):
            continue
        failed = run.add(index, result, result.to_coco(1, ids))
        printer.picture(run.sources[index].name, result)
        if failed:
            unwritten += len(failed)
            say(failure(run.folder, failed), err=True)
    return unwritten


def _close(run: Run, json: bool, stop: BaseException | None = None) -> None:
    """Write results.json. After an interruption (`stop`), only report a failure to write: `stop` matters more."""
    from condinst.cli.results.document import document
    from condinst.errors import CondinstError

    try:
        run.close()
    except CondinstError as error:
        if stop is None:
            raise
        say(f"error: {error}", err=True)
    if json and run.has_results:
        sys.stdout.writelines(document(run.journal))


def complain(run: Run, unusable: int, unwritten: int) -> None:
    """Raise DataError if a source failed, CondinstError if a file could not be written."""
    from condinst.errors import CondinstError, DataError

    bad, total = run.left_out + unusable, len(run.sources) + unusable
    files = f"{unwritten} files could not be written" if unwritten else ""
    if bad:
        raise DataError(f"{bad} of {total} sources could not be used{f' and {files}' * bool(files)}; see above")
    if files:
        raise CondinstError(f"{files}; see above, then run the same command with --resume")

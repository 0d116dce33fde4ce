"""Many sources through the pipeline: while the network works on one batch, others are read and assembled."""

from __future__ import annotations

import itertools
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from condinst.errors import CondinstError, DataError, PictureWarning, UsageError, out_of_memory
from condinst.inference.pipeline import Pipeline, Prepared, Seen
from condinst.inference.result import Result
from condinst.sources.read import Picture

Source = TypeVar("Source")
Outcome = TypeVar("Outcome")
OnError = Literal["raise", "skip"] | Callable[[Any, CondinstError], object]
AHEAD = 2  # batches read or assembled while the network works on another


class Loaded(NamedTuple, Generic[Source]):
    """A batch after reading. outcomes: of each source its picture, or why there is none.

    prepared: the pictures as the network takes them; None where there is no picture or the memory did not suffice.
    """

    sources: tuple[Source, ...]
    outcomes: list[Picture | CondinstError]
    prepared: Prepared | None

    @property
    def pictures(self) -> list[Picture]:
        """Those that could be read."""
        return [outcome for outcome in self.outcomes if isinstance(outcome, Picture)]


@dataclass(frozen=True)
class Stream(Generic[Source]):
    """Results of any number of sources, of which a few batches are held at a time.

    read: the picture of a source; it runs in a thread of its own and may raise CondinstError. on_error: "raise" ends
    the stream with the first error, "skip" warns, and a function is called with the source and its error.
    """

    pipeline: Pipeline
    read: Callable[[Source], Picture]
    batch: int
    on_error: OnError

    def __call__(self, sources: Iterable[Source]) -> Iterator[Result]:
        """The results in the order of the sources; errors are told in that order, too."""
        waiting = _Batches(sources, self.batch)
        batches = iter(waiting)
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            reading = deque(reader.submit(self._load, some) for some in itertools.islice(batches, AHEAD))
            writing: deque[tuple[Loaded[Source], Future[list[Result] | None]]] = deque()
            while reading:
                loaded = reading.popleft().result()
                reading.extend(reader.submit(self._load, some) for some in itertools.islice(batches, 1))
                writing.append((loaded, writer.submit(self._assemble, loaded, self._forward(loaded))))
                while len(writing) > (AHEAD - 1 if reading else 0):
                    done, results = writing.popleft()
                    yield from self._tell(done, results.result())
        if waiting.broken is not None:
            raise waiting.broken

    def _load(self, sources: tuple[Source, ...]) -> Loaded[Source]:
        start = time.perf_counter()
        loaded = Loaded(sources, [self._read(source) for source in sources], None)
        reading = time.perf_counter() - start
        if not loaded.pictures:
            return loaded
        return loaded._replace(prepared=_if_it_fits(lambda: self.pipeline.prepare(loaded.pictures, reading)))

    def _read(self, source: Source) -> Picture | CondinstError:
        try:
            return self.read(source)
        except CondinstError as error:
            return error

    def _forward(self, loaded: Loaded[Source]) -> Seen | None:
        prepared = loaded.prepared
        return None if prepared is None else _if_it_fits(lambda: self.pipeline.forward(prepared))

    def _assemble(self, loaded: Loaded[Source], seen: Seen | None) -> list[Result] | None:
        """The results of the pictures; None where the memory did not suffice for all of them together."""
        prepared = loaded.prepared
        if prepared is None or seen is None:
            return None
        return _if_it_fits(lambda: self.pipeline.assemble(prepared, seen))

    def _tell(self, loaded: Loaded[Source], results: list[Result] | None) -> Iterator[Result]:
        """Yield the results, and tell the errors between them."""
        waiting = None if results is None else iter(results)
        for source, outcome in zip(loaded.sources, loaded.outcomes, strict=True):
            found: Result | CondinstError
            if isinstance(outcome, CondinstError):
                found = outcome
            else:
                found = self._alone(outcome) if waiting is None else next(waiting)
            if isinstance(outcome, Picture):
                tell_remarks(outcome, stacklevel=4)
            if isinstance(found, Result):
                yield found
            elif self.on_error == "raise":
                raise found
            elif self.on_error == "skip":
                warnings.warn(f"left out: {found}", PictureWarning, stacklevel=3)  # where the next result is asked for
            else:
                self.on_error(source, found)

    def _alone(self, picture: Picture) -> Result | DataError:
        """The result of one picture of a batch that the memory did not suffice for."""
        result = _if_it_fits(lambda: self.pipeline([picture])[0])
        if result is not None:
            return result
        height, width = picture.array.shape[:2]
        size = f"{width}×{height} pixels"
        return DataError(f"{picture.name}: not enough memory for {size}; scale the picture down or cut it into tiles")


def tell_remarks(picture: Picture, stacklevel: int) -> None:
    """A Python warning for each thing that a user should know of a picture."""
    for remark in picture.remarks:
        warnings.warn(f"{picture.name}: {remark}", PictureWarning, stacklevel)


class _Batches(Generic[Source]):
    """The sources in tuples of `size`. broken: the error that their iterator ended with, if it did."""

    def __init__(self, sources: Iterable[Source], size: int) -> None:
        self.sources, self.size = sources, size
        self.broken: Exception | None = None

    def __iter__(self) -> Iterator[tuple[Source, ...]]:
        some: list[Source] = []
        try:
            for source in self.sources:
                some.append(source)
                if len(some) == self.size:
                    yield tuple(some)
                    some = []
        except Exception as error:  # the results of the sources before it come first
            self.broken = error
        if some:
            yield tuple(some)


def check_stream(batch: int, on_error: object) -> None:
    """Raise UsageError for what a stream does not take."""
    if batch < 1:
        raise UsageError(f"batch: expected at least 1, got {batch}")
    if not callable(on_error) and on_error not in ("raise", "skip"):
        raise UsageError(f"on_error: expected 'raise', 'skip' or a function of a source and an error, got {on_error!r}")


def _if_it_fits(stage: Callable[[], Outcome]) -> Outcome | None:
    """The value of `stage()`; None where the memory does not suffice."""
    try:
        return stage()
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        return None

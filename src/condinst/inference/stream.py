"""Predict many pictures: other threads read and assemble batches while the network works on one."""

from __future__ import annotations

import itertools
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

from condinst.data.transforms import input_shape
from condinst.errors import CondinstError, DataError, PictureWarning, TooLargeError, UsageError, out_of_memory
from condinst.inference.pipeline import SMALL, Pipeline, Prepared, Seen
from condinst.inference.result import Result
from condinst.sources.read import Opened, Picture
from condinst.web import Downloads

Source = TypeVar("Source")
Outcome = TypeVar("Outcome")
OnError = Literal["raise", "skip"] | Callable[[Any, CondinstError], object]
AHEAD = 2  # batches that are read or assembled while the network works on another


class Large(Protocol):
    """Segments pictures that are too large for one pass through the network."""

    def needed(self, picture: Opened) -> bool:
        """Whether the picture is too large."""

    def segment(self, picture: Opened) -> Result:
        """The result of such a picture."""


class Loaded(NamedTuple, Generic[Source]):
    """A batch after reading.

    outcomes: for each source its picture, or the error from reading it. prepared: the input of the network, or None if
    there is no picture, not enough memory, or a large picture.
    """

    sources: tuple[Source, ...]
    outcomes: list[Opened | CondinstError]
    prepared: Prepared | None

    @property
    def pictures(self) -> list[Opened]:
        """The pictures that could be read."""
        return [outcome for outcome in self.outcomes if not isinstance(outcome, CondinstError)]


@dataclass(frozen=True)
class Stream(Generic[Source]):
    """The results of any number of sources. A few batches are in memory at a time.

    read: reads the picture of a source; it runs in another thread and may raise CondinstError. batch: pictures in a
    batch. on_error: "raise" ends the stream at the first error. "skip" warns and continues. A function is called with
    the source and the error, and the stream continues. large: segments large pictures; None treats all pictures alike.
    """

    pipeline: Pipeline
    read: Callable[[Source], Opened]
    batch: int
    on_error: OnError
    large: Large | None = None

    def __call__(self, sources: Iterable[Source]) -> Iterator[Result]:
        """Yield the results and report the errors, both in the order of the sources."""
        waiting = _Batches(sources, self.batch)
        downloads = Downloads()
        with ThreadPoolExecutor(1, initializer=downloads.join) as reader, ThreadPoolExecutor(1) as writer:
            try:
                yield from self._predict(iter(waiting), reader, writer)
            except BaseException:  # Ctrl-C, or the caller wants no more results: nothing waits for a slow server
                reader.shutdown(wait=False, cancel_futures=True)
                downloads.end()
                raise
        if waiting.broken is not None:
            raise waiting.broken

    def _predict(
        self, batches: Iterator[tuple[Source, ...]], reader: ThreadPoolExecutor, writer: ThreadPoolExecutor
    ) -> Iterator[Result]:
        reading = deque(reader.submit(self._load, some) for some in itertools.islice(batches, AHEAD))
        writing: deque[tuple[Loaded[Source], Future[list[Result] | None]]] = deque()
        while reading:
            loaded = reading.popleft().result()
            reading.extend(reader.submit(self._load, some) for some in itertools.islice(batches, 1))
            writing.append((loaded, writer.submit(self._assemble, loaded, self._forward(loaded))))
            while len(writing) > (AHEAD - 1 if reading else 0):
                done, results = writing.popleft()
                yield from self._tell(done, results.result())

    def _load(self, sources: tuple[Source, ...]) -> Loaded[Source]:
        start = time.perf_counter()
        loaded = Loaded(sources, [self._read(source) for source in sources], None)
        reading = time.perf_counter() - start
        whole = [picture for picture in loaded.pictures if isinstance(picture, Picture)]
        if not whole or len(whole) < len(loaded.pictures) or any(map(self._is_large, whole)):
            return loaded
        return loaded._replace(prepared=_if_it_fits(lambda: self.pipeline.prepare(whole, reading)))

    def _read(self, source: Source) -> Opened | CondinstError:
        try:
            return self.read(source)
        except CondinstError as error:
            return error

    def _forward(self, loaded: Loaded[Source]) -> Seen | None:
        prepared = loaded.prepared
        return None if prepared is None else _if_it_fits(lambda: self.pipeline.forward(prepared))

    def _assemble(self, loaded: Loaded[Source], seen: Seen | None) -> list[Result] | None:
        """The results of the pictures, or None if there is not enough memory for the whole batch."""
        prepared = loaded.prepared
        if prepared is None or seen is None:
            return None
        return _if_it_fits(lambda: self.pipeline.assemble(prepared, seen))

    def _tell(self, loaded: Loaded[Source], results: list[Result] | None) -> Iterator[Result]:
        """Yield the results of a batch and report its errors, in the order of the sources."""
        waiting = None if results is None else iter(results)
        for source, outcome in zip(loaded.sources, loaded.outcomes, strict=True):
            found: Result | CondinstError
            if isinstance(outcome, CondinstError):
                found = outcome
            else:
                tell_remarks(outcome, stacklevel=5)  # first, because a picture in tiles may take an hour
                found = self._alone(outcome) if waiting is None else next(waiting)
            if isinstance(found, Result):
                yield found
            elif self.on_error == "raise":
                raise found
            elif self.on_error == "skip":
                warnings.warn(f"left out: {found}", PictureWarning, stacklevel=4)  # the line that asks for a result
            else:
                self.on_error(source, found)

    def _is_large(self, picture: Opened) -> bool:
        return self.large is not None and self.large.needed(picture)

    def _alone(self, picture: Opened) -> Result | DataError:
        """The result of one picture that is large, or after the memory was not enough for its batch."""
        if self.large is not None and self.large.needed(picture):
            return segment_large(self.large, picture)
        assert isinstance(picture, Picture)  # the others are large
        result = _if_it_fits(lambda: self.pipeline([picture])[0])
        return no_memory(picture, self.pipeline) if result is None else result


def segment_large(large: Large, picture: Opened) -> Result | DataError:
    """The result of a large picture, or the error that ends it."""
    try:
        return large.segment(picture)
    except DataError as error:
        return error


def no_memory(picture: Picture, pipeline: Pipeline) -> TooLargeError:
    """The error of a picture that the memory does not suffice for."""
    height, width = picture.size
    size = pipeline.config.input
    rows, columns = input_shape(height, width, size)
    what, remedy = f"{width}×{height} pixels", "scale the picture down or cut it into tiles"
    if rows * columns > max(2 * height * width, SMALL):  # the settings are what makes it large
        what += f", reduced to {columns}×{rows} for the network"
        remedy = "lower input.shorter and input.longer (--size, --max-size; size= in Python)"
    return TooLargeError(f"{picture.name}: not enough memory for {what}; {remedy}")


def tell_remarks(picture: Opened, stacklevel: int) -> None:
    """Issue a Python warning for each remark on a picture."""
    for remark in picture.remarks:
        warnings.warn(f"{picture.name}: {remark}", PictureWarning, stacklevel)


class _Batches(Generic[Source]):
    """The sources in tuples of `size`. broken: the error that ended the iterator of the sources, or None."""

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
        except Exception as error:  # raised after the results of the earlier sources
            self.broken = error
        if some:
            yield tuple(some)


def check_stream(batch: int, on_error: object) -> None:
    """Raise UsageError for a batch or an on_error that a stream does not accept."""
    if batch < 1:
        raise UsageError(f"batch: expected at least 1, got {batch}")
    if not callable(on_error) and on_error not in ("raise", "skip"):
        raise UsageError(f"on_error: expected 'raise', 'skip' or a function of a source and an error, got {on_error!r}")


def all_together(pipeline: Pipeline, pictures: Sequence[Picture], reading: float) -> list[Result]:
    """The results of one batch. Raises DataError where the memory does not suffice."""
    results = _if_it_fits(lambda: pipeline(pictures, reading))
    if results is None and len(pictures) == 1:
        raise no_memory(pictures[0], pipeline)
    if results is None:
        raise DataError(
            f"not enough memory for {len(pictures)} pictures together; give fewer at a time or use stream()"
        )
    return results


def _if_it_fits(stage: Callable[[], Outcome]) -> Outcome | None:
    """The value of `stage()`, or None if there is not enough memory."""
    try:
        return stage()
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        return None

"""Segment the frames of a film: one thread decodes, the network works, another thread draws and encodes."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from condinst.data.pictures.image import MAX_PIXELS
from condinst.inference.result import Result
from condinst.predictor import Predictor
from condinst.sources.film import WHOLE, Film, Frame, Part, read_frames
from condinst.tracking.tracker import Tracker

AHEAD = 8  # frames that wait between two threads
LOOK = 0.2  # seconds between two looks whether a thread shall end
Item = TypeVar("Item")


@dataclass
class Times:
    """Seconds of work of each stage. The stages overlap, so they add up to more than the whole."""

    decode: float = 0.0
    network: float = 0.0
    masks: float = 0.0
    track: float = 0.0
    draw: float = 0.0
    dropped: int = 0  # frames of a live film that came while all threads were busy


class Decoder:
    """Decodes frames in a thread of its own. A live film drops its oldest waiting frames, others wait."""

    def __init__(self, film: Film, part: Part, times: Times, max_pixels: int = MAX_PIXELS) -> None:
        self.film, self.part, self.times, self.max_pixels = film, part, times, max_pixels
        self.waiting: queue.Queue[Frame | Exception | None] = queue.Queue(AHEAD)
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.ended.set()
        if not self.film.live:  # a live film may wait for its next frame for a long time
            self.thread.join()

    def __iter__(self) -> Iterator[Frame]:
        """The frames. An error of the film is raised after the frames before it."""
        while True:
            item = self.waiting.get()
            if item is None:
                return
            if isinstance(item, Exception):
                raise item
            yield item

    def _work(self) -> None:
        frames = read_frames(self.film.place, self.part, self.max_pixels)
        last: Exception | None = None
        try:
            while not self.ended.is_set():
                start = time.perf_counter()
                frame = next(frames, None)
                self.times.decode += time.perf_counter() - start
                if frame is None:
                    break
                self._hand_over(frame)
        except Exception as error:  # raised again in the thread that reads
            last = error
        finally:
            frames.close()  # type: ignore[attr-defined]
            self._hand_over(last, drop=False)

    def _hand_over(self, item: Frame | Exception | None, drop: bool = True) -> None:
        while not self.ended.is_set():
            try:
                self.waiting.put(item, timeout=0 if self.film.live and drop else LOOK)
            except queue.Full:
                if self.film.live and drop:
                    with suppress(queue.Empty):
                        self.waiting.get_nowait()
                        self.times.dropped += 1
            else:
                return


@dataclass
class Background(Generic[Item]):
    """Calls a function with each item in a thread of its own, in order. An error is raised by the next call."""

    work: Callable[[Item], object]
    waiting: queue.Queue[Any] = field(default_factory=lambda: queue.Queue(AHEAD))
    error: Exception | None = None

    def __enter__(self) -> Self:
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Wait until all items are worked on."""
        self.waiting.put(None)
        self.thread.join()
        if self.error is not None and error is None:
            raise self.error

    def __call__(self, item: Item) -> None:
        if self.error is not None:
            raise self.error
        self.waiting.put(item)

    def _work(self) -> None:
        while (item := self.waiting.get()) is not None:
            if self.error is None:
                try:
                    self.work(item)
                except Exception as error:
                    self.error = error


def segment_film(
    predictor: Predictor,
    film: Film,
    part: Part = WHOLE,
    tracker: Tracker | None = None,
    batch: int = 1,
    classes: Any = None,
    times: Times | None = None,
) -> Iterator[tuple[Frame, Result]]:
    """Yield each chosen frame of a film with its result, with `boxes.id` if there is a tracker.

        film = describe_film("film.mp4")
        for frame, result in segment_film(predictor, film, tracker=Tracker()):
            print(frame.seconds, result.boxes.id)

    With a tracker, the predictor needs a `conf` of at most `tracker.low`. times: counts the seconds of each stage.
    Raises the errors of `read_frames`, after the results of the frames before.
    """
    times = times or Times()
    waiting: deque[Frame] = deque()

    def arrays(frames: Decoder) -> Iterator[Any]:
        for frame in frames:
            waiting.append(frame)
            yield frame.array

    with Decoder(film, part, times, predictor.max_pixels) as frames:
        for result in predictor.stream(arrays(frames), batch, classes=classes):
            frame = waiting.popleft()
            times.network += result.speed.get("inference", 0.0) / 1000
            times.masks += result.speed.get("postprocess", 0.0) / 1000
            if tracker is not None:
                start = time.perf_counter()
                result = tracker.update(result, frame.number)
                times.track += time.perf_counter() - start
            yield frame, result

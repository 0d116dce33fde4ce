"""Read the frames of a film: a video file, a stream of the network, or a camera. PyAV does the decoding."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from condinst.data.pictures.image import MAX_PIXELS
from condinst.errors import DataError, TooLargeError, UsageError, first_line, hide_secrets
from condinst.web import is_address

ENDINGS = frozenset(
    (
        *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mjpeg", ".mkv", ".mov", ".mp4", ".mpeg"),
        *(".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"),
    )
)
STREAMS = re.compile("(rtsps?|rtmps?|srt|udp|rtp)://", re.IGNORECASE)
CAMERA = re.compile("[0-9]{1,3}")
INEXACT = 2  # frames by which the count in an intact file may be wrong
OPEN_SECONDS, READ_SECONDS = 15.0, 30.0  # patience with a server or a camera
MISSING = "films need PyAV, which is not installed: pip install 'condinst[video]'"


class Film(NamedTuple):
    """A film.

    place: the path, address or number of the camera. name: the same for messages, without a password. height, width:
    pixels of an upright frame. rate: frames per second, or None if unknown. frames: what the file says, or None.
    seconds: length, or None. sound: codec of the sound, or "" without sound. live: whether frames come at the pace of
    the world, from a camera or a stream.
    """

    place: str
    name: str
    height: int
    width: int
    rate: Fraction | None
    frames: int | None
    seconds: float | None
    sound: str
    live: bool


class Frame(NamedTuple):
    """A frame.

    number: in the film, from 0. seconds: from the start of the film. array: (H, W, 3) uint8 RGB, upright. film: its
    name.
    """

    number: int
    seconds: float
    array: NDArray[np.uint8]
    film: str = ""

    @property
    def name(self) -> str:
        """Name in messages."""
        return f"{self.film} frame {self.number}"


class Part(NamedTuple):
    """The frames to read: every n-th from `start` to `end` in seconds; end=None reads to the end."""

    every: int = 1
    start: float = 0.0
    end: float | None = None


WHOLE = Part()


def is_film(place: str) -> bool:
    """Whether a source is a film by its name: a video ending, an address of a stream, or the number of a camera."""
    if CAMERA.fullmatch(place):
        return not Path(place).exists()
    if STREAMS.match(place):
        return True
    path = place.split("?")[0] if is_address(place) else place
    return Path(path).suffix.lower() in ENDINGS and (is_address(place) or not Path(place).is_dir())


def is_live(place: str) -> bool:
    """Whether a film has no end of its own: a camera or a stream."""
    return bool(CAMERA.fullmatch(place) or STREAMS.match(place))


def describe_film(place: str, max_pixels: int = MAX_PIXELS) -> Film:
    """Open a film and say what it is. Raises DataError, TooLargeError for too many pixels, UsageError without PyAV."""
    with _opened(place) as container:
        return _describe(place, container, max_pixels)


def read_frames(place: str, part: Part = WHOLE, max_pixels: int = MAX_PIXELS) -> Iterator[Frame]:
    """Yield the chosen frames of a film, one at a time.

        for frame in read_frames("film.mp4", Part(every=5)):
            result = predictor(frame.array)

    Raises DataError for a film that cannot be opened. A film that breaks off raises DataError after its last good
    frame; so does a file with fewer frames than it says. Raises UsageError for a part out of range.
    """
    _check(part)
    with _opened(place) as container:
        film = _describe(place, container, max_pixels)
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        seen = last = -1
        try:
            for seen, seconds, frame in _decoded(container, stream, film, part):
                if part.end is not None and seconds > part.end:
                    return
                if seconds >= part.start - 1e-6 and (last < 0 or seen - last >= part.every):
                    last = seen
                    yield Frame(seen, seconds, _upright(frame), film.name)
        except av_errors() as error:
            raise DataError(
                f"{film.name}: breaks off after frame {seen} ({first_line(error)}); the frames before it were read"
            ) from None
        if film.frames and not part.start and film.frames - seen - 1 > max(INEXACT, film.frames // 50):
            raise DataError(
                f"{film.name}: breaks off after {seen + 1} of {film.frames} frames; the frames before it were read"
            )


def _check(part: Part) -> None:
    if part.every < 1:
        raise UsageError(f"every: expected at least 1, got {part.every}")
    if part.start < 0 or (part.end is not None and part.end <= part.start):
        raise UsageError(f"start, end: expected 0 or more, and end after start, got {part.start:g} and {part.end}")


def _decoded(container: Any, stream: Any, film: Film, part: Part) -> Iterator[tuple[int, float, Any]]:
    """The number, the time and the picture of each frame. After a jump, numbers are computed from the time."""
    rate = float(film.rate or 25)
    first = stream.start_time or 0
    jumped = part.start > 0 and not film.live
    if jumped:
        container.seek(first + int(part.start / stream.time_base), stream=stream, backward=True)
    for count, frame in enumerate(container.decode(stream)):
        known = frame.pts is not None
        seconds = float((frame.pts - first) * stream.time_base) if known else count / rate
        yield round(seconds * rate) if jumped and known else count, max(seconds, 0.0), frame


def _upright(frame: Any) -> NDArray[np.uint8]:
    """RGB, turned as the film asks for."""
    array: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(array, turns)) if turns else array


def _describe(place: str, container: Any, max_pixels: int) -> Film:
    name = _name(place)
    if not container.streams.video:
        raise DataError(f"{name}: has no pictures, only {'sound' if container.streams.audio else 'other data'}")
    stream = container.streams.video[0]
    height, width = stream.codec_context.height, stream.codec_context.width
    if not height or not width:
        raise DataError(f"{name}: its codec cannot be decoded here ({stream.codec_context.name})")
    if height * width > max_pixels:
        raise TooLargeError(f"{name}: frames of {width}×{height} pixels, more than {max_pixels:,}; see --max-pixels")
    seconds = float(stream.duration * stream.time_base) if stream.duration else None
    if seconds is None and container.duration:
        seconds = container.duration / 1e6
    sound = container.streams.audio[0].codec_context.name if container.streams.audio else ""
    rate = stream.average_rate or stream.guessed_rate
    return Film(place, name, height, width, rate or None, stream.frames or None, seconds, sound, is_live(place))


@contextmanager
def _opened(place: str) -> Iterator[Any]:
    """The film, opened by PyAV."""
    av = load_av()
    file = place
    given: dict[str, Any] = {}
    if CAMERA.fullmatch(place):
        file, given = _camera(place)
    elif not STREAMS.match(place) and not is_address(place) and not Path(place).is_file():
        raise DataError(f"{_name(place)}: no such file")
    elif place.lower().startswith("rtsp"):
        given = {"options": {"rtsp_transport": "tcp"}}
    try:
        container = av.open(file, timeout=(OPEN_SECONDS, READ_SECONDS), **given)
    except av_errors() as error:
        what = "camera" if CAMERA.fullmatch(place) else "film"
        raise DataError(f"{_name(place)}: cannot be opened as a {what} ({_reason(error)})") from None
    with container:
        yield container


def _camera(number: str) -> tuple[str, dict[str, Any]]:
    if sys.platform == "darwin":
        return number, {"format": "avfoundation", "options": {"framerate": "30"}}
    if sys.platform == "win32":
        return f"video={number}", {"format": "dshow"}
    return f"/dev/video{number}", {"format": "v4l2"}


def load_av() -> Any:
    """PyAV. Raises UsageError if it is not installed."""
    try:
        return importlib.import_module("av")
    except ImportError:
        raise UsageError(MISSING) from None


def av_errors() -> tuple[type[Exception], ...]:
    """The errors of FFmpeg and of files."""
    return load_av().error.FFmpegError, OSError, ValueError


def _reason(error: Exception) -> str:
    return first_line(getattr(error, "strerror", None) or error)


def _name(place: str) -> str:
    return f"camera {place}" if CAMERA.fullmatch(place) else hide_secrets(place)

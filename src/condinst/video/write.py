"""Write a film in H.264, with the sound of another film untouched."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from condinst.errors import CondinstError, first_line
from condinst.sources.film import Film, av_errors, load_av

CLOCK = 90_000  # ticks of a second, in which the times of the frames are written
CODECS = ("libx264", "h264", "libopenh264")
QUALITY = {"crf": "20", "preset": "veryfast"}
FORMATS = {".mp4": "mp4", ".mkv": "matroska"}


def ending_for(film: Film) -> str:
    """The ending of a film that can hold this film's sound: .mp4, or .mkv for sound that MP4 cannot hold."""
    return next((ending for ending in FORMATS if holds(ending, film.sound)), ".mp4")


def holds(ending: str, sound: str) -> bool:
    """Whether a film of this ending can hold sound of this codec. "" is no sound."""
    if not sound:
        return True
    with load_av().open(os.devnull, "w", format=FORMATS[ending]) as trial:
        return sound in trial.supported_codecs


class FilmWriter:
    """Writes frames with the times of their film. The file has its name only when it is complete.

        with FilmWriter(Path("out.mp4"), film) as writer:
            writer.add(frame.array, frame.seconds)

    Sound that the format cannot hold is left out, see `holds`. Frames have an even number of rows and columns in H.264;
    an odd one gets a copy of its last row or column. start, end: the part of the film, in seconds, that the new film
    shows; end=None is its end. Closing after an error keeps the frames so far. Raises CondinstError for a codec that is
    missing and for a file that cannot be written.
    """

    def __init__(self, path: Path, film: Film, start: float = 0.0, end: float | None = None) -> None:
        self.path, self.film, self.start, self.end = path, film, start, end
        self.av = load_av()
        self.part = path.with_name(f".{path.name}.part")
        self.last = -1
        self.output: Any = None
        self.picture: Any = None
        self.sound: Any = None
        self.input: Any = None
        self.packets: Iterator[Any] = iter(())
        self.waiting: Any = None
        self.origin = 0.0  # seconds of the first frame, on the clock of the input

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close(complete=kind is None)

    def add(self, frame: NDArray[np.uint8], seconds: float) -> None:
        """Write a frame (H, W, 3) uint8 RGB that the film shows at this time. All frames have the size of the first."""
        try:
            if self.output is None:
                self._open(*frame.shape[:2])
            even = np.pad(frame, [(0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)], mode="edge")
            shown = self.av.VideoFrame.from_ndarray(even, format="rgb24")
            shown.pts = self.last = max(round((seconds - self.start) * CLOCK), self.last + 1)
            shown.time_base = Fraction(1, CLOCK)
            self.output.mux(self.picture.encode(shown))
            self._copy_sound(seconds)
        except av_errors() as error:
            raise self._unwritable(error) from None

    def close(self, complete: bool = True) -> None:
        """Write what is left and give the file its name. Without a frame there is no file.

        complete: whether the film was read as far as it was wanted, so that its sound is copied as far.
        """
        if self.output is None:
            return
        try:
            end = math.inf if self.end is None else self.end
            self._copy_sound(end if complete else self.start + self.last / CLOCK)
            self.output.mux(self.picture.encode())
            self.output.close()
            os.replace(self.part, self.path)
        except av_errors() as error:
            raise self._unwritable(error) from None
        finally:
            self.output = None
            if self.input is not None:
                self.input.close()
            with suppress(OSError):
                self.part.unlink(missing_ok=True)

    def _open(self, height: int, width: int) -> None:
        self.output = self.av.open(str(self.part), "w", format=FORMATS[self.path.suffix])
        codec = next((name for name in CODECS if name in self.av.codecs_available), None)
        if codec is None:
            raise CondinstError(
                "this PyAV has no encoder for H.264; install the wheel: pip install --force-reinstall av"
            )
        rate = self.film.rate or Fraction(25)
        self.picture = self.output.add_stream(codec, rate=rate, options=QUALITY if codec == "libx264" else {})
        self.picture.height, self.picture.width = height + height % 2, width + width % 2
        self.picture.pix_fmt = "yuv420p"
        self.picture.codec_context.time_base = Fraction(1, CLOCK)
        if self.film.sound and not self.film.live and holds(self.path.suffix, self.film.sound):
            self.input = self.av.open(self.film.place)
            source = self.input.streams.audio[0]
            self.sound = self.output.add_stream_from_template(source)
            self.packets = self.input.demux(source)
            shown = self.input.streams.video[0]
            self.origin = float((shown.start_time or 0) * shown.time_base)

    def _copy_sound(self, seconds: float) -> None:
        """Copy the packets of sound up to this time of the film."""
        while self.sound is not None:
            packet = self.waiting or next(self.packets, None)
            self.waiting = None
            if packet is None:
                self.sound = None
                return
            if packet.dts is None or packet.pts is None:
                continue
            time = float(packet.pts * packet.time_base) - self.origin
            if time > seconds:
                self.waiting = packet
                return
            if time >= self.start or not self.start:  # sound may begin a little before the first frame
                shift = round((self.origin + self.start) / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = self.sound
                self.output.mux(packet)

    def _unwritable(self, error: Exception) -> CondinstError:
        return CondinstError(
            f"{self.path}: cannot be written ({first_line(getattr(error, 'strerror', None) or error)})"
        )

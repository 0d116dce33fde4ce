"""`condinst predict` for films: a film with masks, and a line of JSON for each frame."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from condinst.cli.terminal.interrupts import stoppable
from condinst.cli.terminal.say import say, warnings_as_notes

if TYPE_CHECKING:
    from condinst.inference.result import Result
    from condinst.predictor import Predictor
    from condinst.sources.film import Film, Frame, Part
    from condinst.tracking.tracker import Tracker
    from condinst.video.run import Times

SHOWN_EVERY = 0.5  # seconds between two updates of the progress line
FIRST_KEY, VERSION = "condinst_film", 1  # of the first line of the JSON Lines: the version of this format


@dataclass(frozen=True)
class Wanted:
    """What a run does with each film.

    folder: where the results go, or None for lines on standard output. overlay: write a film with the masks drawn in.
    """

    part: Part
    track: bool
    high: float
    batch: int
    classes: list[int] | None
    folder: Path | None
    overlay: bool
    overwrite: bool
    json: bool
    style: dict[str, Any]
    header: dict[str, Any]


@dataclass
class Count:
    """What was found so far. seen: number of each track."""

    frames: int = 0
    instances: int = 0
    seen: set[int] = field(default_factory=set)


def only_films(sources: list[str]) -> bool:
    """Whether all sources are films. Raises UsageError for films and pictures together."""
    from condinst.errors import UsageError, some
    from condinst.sources.film import is_film

    films = [source for source in sources if is_film(source)]
    if films and len(films) < len(sources):
        pictures = [source for source in sources if source not in films]
        raise UsageError(f"films and pictures need runs of their own: {some(films, 2)} and {some(pictures, 2)}")
    return bool(films)


def refuse(given: dict[str, object]) -> None:
    """Raise UsageError for an option that films do not have. given: the value of each such option."""
    from condinst.errors import UsageError

    reasons = {
        "--resume": "a film starts again; --start SECONDS continues at a time",
        "--save": "the lines of OUT/NAME.jsonl hold boxes and masks",
        "--workers": "one process segments a film",
        "--pages": "a film has frames; --every, --start and --end choose them",
        "--legend": "the frames of a film have one size",
        "--scale": "the frames of a film keep their size",
    }
    for option, value in given.items():
        if value:
            raise UsageError(f"{option} is not for films: {reasons[option]}")


def predict_films(sources: list[str], predictor: Predictor, wanted: Wanted) -> None:
    """Segment each film. A film that cannot be used is reported, and the next one follows. Raises DataError then."""
    from condinst.errors import DataError

    failed = 0
    for source in sources:
        try:
            _predict_film(source, predictor, wanted)
        except DataError as error:
            failed += 1
            say(f"left out: {error}" if len(sources) > 1 else f"note: {error}", err=True)
    if failed:
        raise DataError(f"{failed} of {len(sources)} films could not be used to their end; see above")


def _predict_film(source: str, predictor: Predictor, wanted: Wanted) -> None:
    from condinst.sources.film import describe_film
    from condinst.video.run import Times

    film = describe_film(source, predictor.max_pixels)
    places = _places(film, wanted)
    count, times, begun = Count(), Times(), time.perf_counter()
    try:
        with stoppable(lambda: f"stopped after {count.frames} frames; {_kept(places, count)}"), warnings_as_notes():
            _each_frame(film, predictor, wanted, places, count, times)
    finally:
        if sys.stderr.isatty():
            typer.echo(err=True)
        _summary(film, wanted, places, count, times, time.perf_counter() - begun)


def _places(film: Film, wanted: Wanted) -> dict[str, Path]:
    """The files to write. Raises UsageError for a file that is there already."""
    from condinst.errors import UsageError
    from condinst.sources.places import Source
    from condinst.video.write import ending_for, holds

    if wanted.folder is None:
        return {}
    wanted.folder.mkdir(parents=True, exist_ok=True)
    stem = Source(film.name if "://" in film.name or film.live else Path(film.place)).stem
    found = {"lines": wanted.folder / f"{stem}.jsonl"}
    if wanted.overlay:
        found["film"] = wanted.folder / f"{stem}{ending_for(film)}"
        if not holds(found["film"].suffix, film.sound):
            say(f"note: the sound ({film.sound}) is left out, because neither MP4 nor Matroska holds it", err=True)
    for path in found.values():
        if path.exists() and Path(film.place).exists() and path.samefile(film.place):
            raise UsageError(f"{path}: is the film itself; choose another --out")
        if path.exists() and not wanted.overwrite:
            raise UsageError(f"{path}: exists; add --overwrite, or choose another --out")
    return found


def _each_frame(
    film: Film, predictor: Predictor, wanted: Wanted, places: dict[str, Path], count: Count, times: Times
) -> None:
    from condinst.tracking.tracker import Tracker
    from condinst.video.run import Background, segment_film
    from condinst.video.write import FilmWriter

    tracker = Tracker(high=wanted.high, low=predictor.conf or 0.0) if wanted.track else None
    ids = {label: label + 1 for label in predictor.names}
    with ExitStack() as stack:
        lines = stack.enter_context(_open_lines(places["lines"])) if places else None
        _write_line(lines, wanted.json, _header(film, wanted))
        draw = None
        if "film" in places:
            writer = stack.enter_context(FilmWriter(places["film"], film, wanted.part.start, wanted.part.end))

            def encode(item: tuple[Frame, Result]) -> None:
                start = time.perf_counter()
                frame, result = item
                writer.add(result.plot(frame.array, scale=1, legend=False, **wanted.style), frame.seconds)
                times.draw += time.perf_counter() - start

            draw = stack.enter_context(Background(encode))
        shown = Progress(film, wanted.part)
        found = segment_film(predictor, film, wanted.part, tracker, wanted.batch, wanted.classes, times)
        try:
            for frame, result in found:
                _write_line(lines, wanted.json, _line(frame, result, ids))
                if draw is not None:
                    draw((frame, result))
                _count(count, result, tracker)
                shown(frame, count.frames)
        finally:
            found.close()  # type: ignore[attr-defined]  # a generator


def _count(count: Count, result: Result, tracker: Tracker | None) -> None:
    count.frames += 1
    count.instances += len(result)
    if tracker is not None and result.boxes.id is not None:
        count.seen.update(result.boxes.id.tolist())


def _open_lines(path: Path) -> Any:
    from condinst.errors import CondinstError

    try:
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise CondinstError(f"{path}: cannot be written ({error.strerror or error})") from None


def _write_line(lines: Any, printed: bool, record: dict[str, Any]) -> None:
    """Write a line whole, so that a killed run leaves whole lines."""
    from condinst.errors import CondinstError

    text = json.dumps(record, allow_nan=False) + "\n"
    if lines is not None:
        try:
            lines.write(text)
            lines.flush()
        except OSError as error:
            raise CondinstError(f"{lines.name}: cannot be written ({error.strerror or error})") from None
    if printed:
        sys.stdout.write(text)


def _header(film: Film, wanted: Wanted) -> dict[str, Any]:
    known = {"rate": None if film.rate is None else float(film.rate), "every": wanted.part.every}
    return {FIRST_KEY: VERSION, "film": film.name, "width": film.width, "height": film.height, **known, **wanted.header}


def _line(frame: Frame, result: Result, ids: dict[int, int]) -> dict[str, Any]:
    from condinst.inference.instances.records import rounded

    found = [rounded(record) for record in result.to_coco(1, ids)]
    for record in found:
        del record["image_id"]
    return {"frame": frame.number, "seconds": round(frame.seconds, 4), "annotations": found}


class Progress:
    """A line on the terminal: frames, frames per second, time left. Without a terminal, nothing."""

    def __init__(self, film: Film, part: Part) -> None:
        self.shown, self.begun = 0.0, time.perf_counter()
        end = part.end if part.end is not None else film.seconds
        self.total = None if film.live or end is None else max(min(end, film.seconds or end) - part.start, 0.0)
        self.start = part.start

    def __call__(self, frame: Frame, done: int) -> None:
        now = time.perf_counter()
        if not sys.stderr.isatty() or now - self.shown < SHOWN_EVERY:
            return
        self.shown = now
        spent = max(now - self.begun, 1e-6)
        left = ""
        if self.total:
            share = min(max((frame.seconds - self.start) / self.total, 1e-6), 1.0)
            left = f", {share:.0%}, {spent / share - spent:.0f} s left"
        typer.echo(f"\r{done} frames, {done / spent:.1f} frames/s{left}   ", nl=False, err=True)


def _summary(film: Film, wanted: Wanted, places: dict[str, Path], count: Count, times: Times, seconds: float) -> None:
    tracks = f" in {len(count.seen)} tracks" if wanted.track else ""
    dropped = f", {times.dropped} frames dropped" if times.dropped else ""
    stages = {"decoding": times.decode, "network": times.network, "masks": times.masks}
    stages |= {"tracking": times.track} if wanted.track else {}
    stages |= {"drawing and encoding": times.draw} if "film" in places else {}
    parts = ", ".join(f"{name} {spent:.1f} s" for name, spent in stages.items())
    say(
        f"{film.name}: {count.frames} frames in {seconds:.1f} s ({count.frames / max(seconds, 1e-6):.1f} frames/s; "
        f"{parts}), {count.instances} instances{tracks}{dropped}; {_kept(places, count)}",
        err=True,
    )


def _kept(places: dict[str, Path], count: Count) -> str:
    files = list(_files(places, count))
    return f"written: {', '.join(files)}" if files else "nothing written"


def _files(places: dict[str, Path], count: Count) -> Iterator[str]:
    for name, path in places.items():
        if path.exists() and (name == "lines" or count.frames):
            yield str(path)

"""Tracks of condinst and of roboflow's package trackers, from the same detections.

    python -m benchmarks.tracking.contest

Makes films with known tracks (`clips.py`), gives the same detections to each tracker, and scores the tracks. Writes
benchmarks/results/tracks.json. Needs `pip install trackers trackeval motmetrics pycocotools`.
"""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.facts import RESULTS, Facts, run_command
from benchmarks.tracking.clips import FRAMES, KINDS, Clip, make_clip
from benchmarks.tracking.scores import Scores, Tracked, score
from condinst.files import replace_file
from condinst.inference.result import Result
from condinst.tracking.tracker import Tracker

FILE = RESULTS / "tracks.json"
START = 0.5  # the least score that begins a track, where a row says "from 0.5"
PACKAGES = ("condinst", "trackers", "trackeval", "motmetrics", "supervision", "numpy", "scipy")
Follow = Callable[[Result], Tracked]  # the detections of the next frame → the masks by the number of their track


class Row(Facts):
    """A tracker on a kind of film. Each score is the mean over the seeds; ms: of a frame, the median."""

    film: str
    tracker: str
    hota: float
    deta: float
    assa: float
    box_hota: float
    idf1: float
    mota: float
    switches: float
    ms: float
    hota_of_seeds: tuple[float, ...]


class Table(Facts):
    """What the JSON file holds."""

    command: str
    frames: int
    versions: dict[str, str]
    rows: tuple[Row, ...]


def contestants() -> dict[str, Callable[[], Follow]]:
    """How each tracker is made for a film."""
    from trackers import ByteTrackTracker, CBIoUTracker, OCSORTTracker, SORTTracker

    both = {"track_activation_threshold": START, "high_conf_det_threshold": START}
    return {
        "condinst.Tracker": ours,
        "SORT": lambda: theirs(SORTTracker()),
        "SORT, from 0.5": lambda: theirs(SORTTracker(track_activation_threshold=START)),
        "ByteTrack": lambda: theirs(ByteTrackTracker()),
        "ByteTrack, from 0.5": lambda: theirs(ByteTrackTracker(**both)),
        "OC-SORT, from 0.5": lambda: theirs(OCSORTTracker(high_conf_det_threshold=START)),
        "C-BIoU, from 0.5": lambda: theirs(CBIoUTracker(**both)),
    }


def ours() -> Follow:
    """condinst's tracker with its own settings."""
    tracker = Tracker()

    def follow(result: Result) -> Tracked:
        found = tracker.update(result)
        assert found.boxes.id is not None
        return dict(zip(found.boxes.id.tolist(), found.masks.rle, strict=True))

    return follow


def theirs(tracker: Any) -> Follow:
    """A tracker of roboflow's package. It marks a detection without a track by −1."""

    def follow(result: Result) -> Tracked:
        given = result.to_supervision()
        given.mask = None  # they use boxes alone
        given.data["row"] = np.arange(len(result))
        found = tracker.update(given)
        ids, rows = ([], []) if found.tracker_id is None else (found.tracker_id.tolist(), found.data.get("row", []))
        return {number: result.masks.rle[row] for number, row in zip(ids, rows, strict=True) if number >= 0}

    return follow


def play(clip: Clip, follow: Follow) -> tuple[Scores, list[float]]:
    """The scores of a film, and the milliseconds of each frame."""
    tracked, spent = [], []
    for result in clip.found:
        begun = time.perf_counter()
        tracked.append(follow(result))
        spent.append(1000 * (time.perf_counter() - begun))
    return score(clip.truth, tracked), spent


def main(
    seeds: Annotated[int, typer.Option(help="Films of each kind.")] = 5,
    first: Annotated[int, typer.Option(help="The first seed.")] = 0,
    split: Annotated[str, typer.Option(help="val for scores, train to choose settings.")] = "val",
    datasets: Annotated[Path, typer.Option(help="Folder of the data sets.")] = Path("datasets"),
    only: Annotated[str, typer.Option(help="A part of the names of the kinds.")] = "",
    out: Annotated[Path, typer.Option(help="The JSON file.")] = FILE,
) -> None:
    """Measure and write."""
    rows = []
    for name, kind in KINDS.items():
        if only in name:
            clips = [make_clip(kind, datasets, first + seed, split=split) for seed in range(seeds)]
            rows += [row_of(name, who, clips, make) for who, make in contestants().items()]
    versions = {package: importlib.metadata.version(package) for package in PACKAGES}
    command = "python -m benchmarks.tracking.contest"
    found = Table(command=command, frames=FRAMES, versions=versions, rows=tuple(rows))
    replace_file(out, (found.model_dump_json(indent=1) + "\n").encode())


def row_of(film: str, who: str, clips: list[Clip], make: Callable[[], Follow]) -> Row:
    """A tracker on films of a kind."""
    played = [play(clip, make()) for clip in clips]
    means = {name: round(mean(getattr(scores, name) for scores, _ in played), 4) for name in Scores._fields}
    row = Row(
        film=film,
        tracker=who,
        **means,
        ms=round(median(one for _, spent in played for one in spent), 2),
        hota_of_seeds=tuple(round(scores.hota, 4) for scores, _ in played),
    )
    print(f"{film:28}{who:22}" + " ".join(f"{name} {value:.3f}" for name, value in means.items()), f"{row.ms} ms")
    return row


if __name__ == "__main__":
    run_command(main)

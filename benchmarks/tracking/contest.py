"""Tracks of condinst and of roboflow's package trackers, from the same detections.

    python -m benchmarks.tracking.contest

Scores: HOTA, DetA and AssA by trackeval from the IoU of masks, HOTA from the IoU of boxes, IDF1, MOTA and changes of
number by motmetrics. Each is the mean over the seeds. ms: the median time of a frame in the tracker. Writes
benchmarks/results/tracks.json. Needs `pip install trackers trackeval motmetrics pycocotools`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.facts import RESULTS, run_command
from benchmarks.markdown import table
from benchmarks.tracking.clips import KINDS, Clip, make_clip
from condinst.files import replace_file
from condinst.inference.result import Result
from condinst.ops.bitmaps.rle import Rle
from condinst.tracking.tracker import Tracker

FILE = RESULTS / "tracks.json"
COLUMNS = ("HOTA", "DetA", "AssA", "HOTA of boxes", "IDF1", "MOTA", "switches", "ms")
PACKAGES = ("trackers", "trackeval", "motmetrics")
Tracked = dict[int, Rle]  # the masks of a frame by the number of their track


def contestants() -> dict[str, Callable[[], Any]]:
    """How each tracker is made for a film. "from": the least score that begins a track, if it is not the default."""
    from trackers import ByteTrackTracker, CBIoUTracker, OCSORTTracker, SORTTracker

    both: dict[str, Any] = {"track_activation_threshold": 0.5, "high_conf_det_threshold": 0.5}
    return {
        "condinst": Tracker,
        "condinst, from 0.7": lambda: Tracker(high=0.7),  # as ByteTrack by default
        "SORT": SORTTracker,
        "SORT, from 0.5": lambda: SORTTracker(track_activation_threshold=0.5),
        "ByteTrack": ByteTrackTracker,
        "ByteTrack, from 0.5": lambda: ByteTrackTracker(**both),
        "OC-SORT, from 0.5": lambda: OCSORTTracker(high_conf_det_threshold=0.5),
        "C-BIoU, from 0.5": lambda: CBIoUTracker(**both),
    }


def follow(clip: Clip, tracker: Any) -> tuple[list[Tracked], list[float]]:
    """The tracks of a film, and the milliseconds of each frame without the conversion of the detections."""
    tracked, spent = [], []
    for result in clip.found:
        given = result if isinstance(tracker, Tracker) else boxes_only(result)
        begun = time.perf_counter()
        found = tracker.update(given)
        spent.append(1000 * (time.perf_counter() - begun))
        if isinstance(found, Result):
            assert found.boxes.id is not None
            tracked.append(dict(zip(found.boxes.id.tolist(), found.masks.rle, strict=True)))
        else:  # a detection without a track has −1
            ids = [] if found.tracker_id is None else found.tracker_id.tolist()
            pairs = zip(ids, found.data.get("row", []), strict=True)
            tracked.append({number: result.masks.rle[row] for number, row in pairs if number >= 0})
    return tracked, spent


def boxes_only(result: Result) -> Any:
    """The detections for a tracker of boxes."""
    given = result.to_supervision()
    given.mask, given.data["row"] = None, np.arange(len(result))
    return given


def score(truth: list[Tracked], tracked: list[Tracked]) -> list[float]:
    """The scores of a film: COLUMNS without ms. A mask with an IoU of 0.5 shows an object, for IDF1 and MOTA."""
    import motmetrics
    from pycocotools.mask import toBbox

    pairs = list(zip(truth, tracked, strict=True))
    masks = [ious(list(one.values()), list(other.values())) for one, other in pairs]
    boxes = [ious(*(list(toBbox(list(side.values()))) if side else [] for side in pair)) for pair in pairs]
    counted = motmetrics.MOTAccumulator(auto_id=True)
    for (one, other), found in zip(pairs, masks, strict=True):
        counted.update(list(one), list(other), np.where(found >= 0.5, 1 - found, np.nan))
    names = ["idf1", "mota", "num_switches"]
    counts = motmetrics.metrics.create().compute(counted, metrics=names).iloc[0].tolist()
    return [*hota(truth, tracked, masks), hota(truth, tracked, boxes)[0], *counts]


def hota(truth: list[Tracked], tracked: list[Tracked], similar: list[NDArray[np.float64]]) -> list[float]:
    """HOTA, DetA and AssA, each the mean over the thresholds of similarity from 0.05 to 0.95."""
    from trackeval.metrics.hota import HOTA

    given: dict[str, Any] = {"similarity_scores": similar}
    for name, frames in (("gt", truth), ("tracker", tracked)):
        places = {one: place for place, one in enumerate(sorted({one for frame in frames for one in frame}))}
        given[f"{name}_ids"] = [np.array([places[one] for one in frame], np.int64) for frame in frames]
        given |= {f"num_{name}_dets": sum(map(len, frames)), f"num_{name}_ids": len(places)}
    scores = HOTA().eval_sequence(given)
    return [float(np.mean(scores[name])) for name in COLUMNS[:3]]


def ious(real: Sequence[Any], found: Sequence[Any]) -> NDArray[np.float64]:
    """(T, D) IoU of run lengths, or of boxes as x, y, width, height."""
    from pycocotools.mask import iou

    shape = len(real), len(found)
    return np.asarray(iou(real, found, [0] * len(found))) if all(shape) else np.zeros(shape)


def main(
    seeds: Annotated[int, typer.Option(help="Films of each kind.")] = 5,
    first: Annotated[int, typer.Option(help="The first seed.")] = 0,
    split: Annotated[str, typer.Option(help="val for scores, train to choose settings.")] = "val",
    datasets: Annotated[Path, typer.Option(help="Folder of the data sets.")] = Path("datasets"),
    out: Annotated[Path, typer.Option(help="The JSON file.")] = FILE,
) -> None:
    """Measure and write."""
    films: dict[str, dict[str, list[float]]] = {}
    for film, kind in KINDS.items():
        clips = [make_clip(kind, datasets, first + seed, split=split) for seed in range(seeds)]
        films[film] = {}
        for who, make in contestants().items():
            played = [(clip.truth, *follow(clip, make())) for clip in clips]
            means = np.mean([score(truth, tracked) for truth, tracked, _ in played], axis=0)
            row = [*means, float(np.median([spent for _, _, spent in played]))]
            films[film][who] = [round(float(value), 3) for value in row]
            print(film, who, films[film][who], flush=True)
    record = {"command": "python -m benchmarks.tracking.contest", "columns": COLUMNS, "films": films}
    record["versions"] = {package: version(package) for package in PACKAGES}
    text = json.dumps(record).replace('"films": ', '\n"films": ').replace("], ", "],\n").replace("}, ", "},\n")
    replace_file(out, (text + "\n").encode())


def page_table(path: Path = FILE) -> str:
    """HOTA in percent, as in docs/how-to/films.md."""
    films = json.loads(path.read_text())["films"]
    head = ("film", *next(iter(films.values())))
    return table(head, [(film, *(f"{100 * row[0]:.1f}" for row in rows.values())) for film, rows in films.items()])


if __name__ == "__main__":
    run_command(main)

"""Give the same instance the same id in all frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from condinst.errors import UsageError
from condinst.inference.result import Result
from condinst.tracking.association import Numbers, Shape, make_shape, pair_up, similarities

SMOOTHING = 0.5  # weight of the newest step in the velocity


@dataclass
class Track:
    """An object. shape: as it was seen last, in frame `seen`. velocity: (2,) pixels in x and y for each frame."""

    id: int
    shape: Shape
    seen: int
    velocity: Numbers
    frames: int = 1

    def take(self, shape: Shape, frame: int) -> None:
        """Continue with an instance of a later frame."""
        step = (_middle(shape) - _middle(self.shape)) / max(frame - self.seen, 1)
        self.velocity = step if self.frames == 1 else SMOOTHING * step + (1 - SMOOTHING) * self.velocity
        self.shape, self.seen, self.frames = shape, frame, self.frames + 1


class Tracker:
    """Follows instances through the frames of one film, in two rounds.

        tracker = Tracker()
        for result in predictor.stream(frames, conf=tracker.low):
            tracked = tracker.update(result)
            print(tracked.boxes.id)

    Round one pairs the tracks with the instances of at least the score `high`. Round two pairs the remaining tracks
    with the instances of at least `low`. Each remaining instance of at least `high` begins a track. A track ends after
    `patience` frames without an instance.

    overlap, second_overlap: least similarity of a pair in each round, from 0 to 1: the mean of the IoU of the masks and
    the IoU of enlarged boxes, after the earlier mask has moved on with the velocity of its track. Raises UsageError for
    a value out of range.
    """

    def __init__(
        self,
        high: float = 0.5,
        low: float = 0.1,
        overlap: float = 0.15,
        second_overlap: float = 0.3,
        patience: int = 30,
    ) -> None:
        limits = {"high": high, "low": low, "overlap": overlap, "second_overlap": second_overlap}
        for name, value in limits.items():
            if not 0 <= value <= 1:
                raise UsageError(f"{name}: expected a number from 0 to 1, got {value:g}")
        if low > high:
            raise UsageError(f"low: expected at most high ({high:g}), got {low:g}")
        if patience < 0:
            raise UsageError(f"patience: expected at least 0 frames, got {patience}")
        self.high, self.low, self.overlap, self.second_overlap = high, low, overlap, second_overlap
        self.patience = patience
        self.tracks: list[Track] = []
        self.started = 0  # tracks so far
        self.frame = -1

    def update(self, result: Result[Any], frame: int | None = None) -> Result[Any]:
        """The instances of the next frame that belong to tracks, with `boxes.id`.

        frame: its number, larger than the last one's; by default the next number. Raises UsageError otherwise, and if
        SciPy is not installed.
        """
        number = self.frame + 1 if frame is None else frame
        if number <= self.frame:
            raise UsageError(f"frame: expected more than {self.frame}, got {number}")
        self.frame = number
        scores = np.asarray(result.boxes.conf, dtype=np.float64)
        shapes = list(_shapes(result))
        ids = np.zeros(len(shapes), dtype=np.int64)
        self.tracks = [track for track in self.tracks if number - track.seen - 1 <= self.patience]
        free = list(self.tracks)
        high = np.flatnonzero(scores >= self.high).tolist()
        low = np.flatnonzero((scores >= self.low) & (scores < self.high)).tolist()
        for rows, least in ((high, self.overlap), (low, self.second_overlap)):
            free = self._round(free, rows, shapes, ids, least)
        for row in high:
            if not ids[row]:
                self.started += 1
                ids[row] = self.started
                self.tracks.append(Track(self.started, shapes[row], number, np.zeros(2)))
        kept = np.flatnonzero(ids)
        found = result[kept.tolist()]
        numbers = torch.from_numpy(ids[kept])
        return replace(found, boxes=found.boxes.with_id(numbers))

    def _round(
        self, tracks: list[Track], rows: list[int], shapes: list[Shape], ids: np.ndarray[Any, Any], least: float
    ) -> list[Track]:
        """Pair tracks with instances, and return the tracks without one."""
        moves = np.array([track.velocity * (self.frame - track.seen) for track in tracks]).reshape(-1, 2)
        similar = similarities([track.shape for track in tracks], moves, [shapes[row] for row in rows])
        taken = set()
        for index, column in pair_up(similar, least):
            tracks[index].take(shapes[rows[column]], self.frame)
            ids[rows[column]] = tracks[index].id
            taken.add(index)
        return [track for index, track in enumerate(tracks) if index not in taken]


def _shapes(result: Result[Any]) -> Iterator[Shape]:
    boxes = np.asarray(result.boxes.xyxy, dtype=np.float64)
    for rle, box, label in zip(result.masks.rle, boxes, result.boxes.cls.tolist(), strict=True):
        yield make_shape(rle, box, label)


def _middle(shape: Shape) -> Numbers:
    return (shape.box[:2] + shape.box[2:]) / 2

"""Give the same instance the same id in all frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from condinst.errors import UsageError
from condinst.inference.result import Result
from condinst.tracking.association import Numbers, Shape, pair_up, similarities

SMOOTHING = 0.2  # least weight of the newest step in the velocity; the first steps have equal weights
NEWEST_SCORE = 0.1  # weight of the newest score in a track's score
NEW, NEW_PATIENCE = 2, 2  # a track with at most NEW instances ends after NEW_PATIENCE updates without one
CAMERA_TRACKS = 3  # least number of tracks that tell how the camera moved
CAMERA_SPREAD = 2.0  # the camera moved if the tracks' common step is this many times their median distance from it


@dataclass
class Track:
    """An object. shape: as it was seen last, in frame `seen`. velocity: (2,) pixels in x and y for each frame.

    score: running mean of its scores. missed: updates since `seen`. camera: (2,) pixels that the camera
    has moved since `seen`, beyond the velocity.
    """

    id: int
    shape: Shape
    seen: int
    score: float
    velocity: Numbers = field(default_factory=lambda: np.zeros(2))
    frames: int = 1
    missed: int = 0
    camera: Numbers = field(default_factory=lambda: np.zeros(2))

    def move(self, frame: int) -> Numbers:
        """(2,): the pixels from the place of the shape to the place that is expected in a frame."""
        return self.velocity * (frame - self.seen) + self.camera

    def score_with(self, score: float) -> float:
        """The running mean after an instance of this score."""
        return self.score + NEWEST_SCORE * (score - self.score)

    def take(self, shape: Shape, frame: int, score: float) -> None:
        """Continue with an instance of a later frame."""
        self.score = self.score_with(score)
        step = (_middle(shape) - _middle(self.shape) - self.camera) / max(frame - self.seen, 1)
        self.velocity = self.velocity + max(SMOOTHING, 1 / self.frames) * (step - self.velocity)
        self.shape, self.seen, self.frames = shape, frame, self.frames + 1
        self.missed, self.camera = 0, np.zeros(2)

    def lasts(self, frame: int, patience: int) -> bool:
        """Whether the track goes on in this frame. A new track may be a false detection, so it ends sooner."""
        return frame - self.seen - 1 <= patience and (self.frames > NEW or self.missed <= NEW_PATIENCE)


class Tracker:
    """Follows instances through the frames of one film, in two rounds.

        tracker = Tracker()
        for result in predictor.stream(frames, conf=tracker.low):
            tracked = tracker.update(result)
            print(tracked.boxes.id)

    Round one pairs the tracks with the instances of at least the score `high`. Round two pairs the remaining tracks
    with the instances of at least `low`, as long as the running mean of a track's scores stays at least `high`: false
    detections do not become long tracks. Each remaining instance of at least `high` begins a track. A track ends after
    `patience` frames without an instance. A track of one or two instances ends after 2 updates without one.

    overlap, second_overlap: least similarity of a pair in each round, from 0 to 1: the mean of the IoU of the masks and
    the IoU of enlarged boxes, after the earlier mask has moved on with the velocity of its track and with the camera.
    The camera moves if most tracks leave their expected places together. Raises UsageError for a value out of range.
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
        self.tracks = [track for track in self.tracks if track.lasts(number, self.patience)]
        high = np.flatnonzero(scores >= self.high).tolist()
        low = np.flatnonzero((scores >= self.low) & (scores < self.high)).tolist()
        similar = self._follow_camera([shapes[row] for row in high])
        ids = self._take(self.tracks, high, shapes, scores, pair_up(similar, self.overlap))
        free = [track for track in self.tracks if track.seen < number]
        similar = self._similar(free, [shapes[row] for row in low])
        trusted = np.array([[track.score_with(scores[row]) >= self.high for row in low] for track in free], dtype=bool)
        similar = np.where(trusted.reshape(similar.shape), similar, 0.0)
        ids |= self._take(free, low, shapes, scores, pair_up(similar, self.second_overlap))
        for track in self.tracks:
            track.missed += track.seen < number
        for row in high:
            if row not in ids:
                self.started += 1
                ids[row] = self.started
                self.tracks.append(Track(self.started, shapes[row], number, scores[row]))
        kept = sorted(ids)
        found = result[kept]
        numbers = torch.tensor([ids[row] for row in kept], dtype=torch.int64)
        return replace(found, boxes=found.boxes.with_id(numbers))

    def _similar(self, tracks: list[Track], now: list[Shape]) -> Numbers:
        """(T, D): how similar the tracks at their expected places are to instances of this frame."""
        moves = np.array([track.move(self.frame) for track in tracks]).reshape(-1, 2)
        return similarities([track.shape for track in tracks], moves, now)

    def _follow_camera(self, now: list[Shape]) -> Numbers:
        """Move all tracks with the camera, and return how similar they are to the certain instances of this frame."""
        similar = self._similar(self.tracks, now)
        steady = [row for row, track in enumerate(self.tracks) if not track.missed]
        pairs = [(self.tracks[steady[row]], now[column]) for row, column in pair_up(similar[steady], self.overlap)]
        if len(pairs) < CAMERA_TRACKS:
            return similar
        steps = np.array([_middle(one) - _middle(track.shape) - track.move(self.frame) for track, one in pairs])
        common = np.median(steps, axis=0)
        common[np.abs(common) <= CAMERA_SPREAD * np.median(np.abs(steps - common), axis=0)] = 0
        if not common.any():
            return similar
        for track in self.tracks:
            track.camera = track.camera + common
        return self._similar(self.tracks, now)

    def _take(
        self, tracks: list[Track], rows: list[int], shapes: list[Shape], scores: Numbers, pairs: list[tuple[int, int]]
    ) -> dict[int, int]:
        """Continue tracks with their partners among the rows. Returns the number of the track for each row."""
        for index, column in pairs:
            tracks[index].take(shapes[rows[column]], self.frame, scores[rows[column]])
        return {rows[column]: tracks[index].id for index, column in pairs}


def _shapes(result: Result[Any]) -> Iterator[Shape]:
    boxes = np.asarray(result.boxes.xyxy, dtype=np.float64)
    for rle, box, label in zip(result.masks.rle, boxes, result.boxes.cls.tolist(), strict=True):
        yield Shape(rle, box, label)


def _middle(shape: Shape) -> Numbers:
    return (shape.box[:2] + shape.box[2:]) / 2

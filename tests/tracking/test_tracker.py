"""Tracks against known truth, scored by motmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from condinst.errors import UsageError
from condinst.inference.instances.boxes import Boxes
from condinst.inference.instances.masks import Masks
from condinst.inference.result import Result
from condinst.ops.bitmaps.rle import Region, encode
from condinst.tracking.association import Shape, pair_up, similarities
from condinst.tracking.tracker import Tracker

SIZE = (120, 160)
Disc = tuple[float, float, float]  # x, y, radius


def disc(one: Disc) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    found: NDArray[np.bool_] = (columns - one[0]) ** 2 + (rows - one[1]) ** 2 <= one[2] ** 2
    return found


def result_of(discs: list[Disc], scores: list[float] | None = None, labels: list[int] | None = None) -> Result:
    """A result with a round instance for each disc."""
    bitmaps = [disc(one) for one in discs]
    boxes = [(x - r, y - r, x + r + 1, y + r + 1) for x, y, r in discs]
    shown = Boxes(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4).clamp(min=0),
        torch.tensor(scores if scores is not None else [0.9] * len(discs)),
        torch.tensor(labels if labels is not None else [0] * len(discs), dtype=torch.int64),
        SIZE,
    )
    rles = tuple(encode(Region(bitmap, 0, 0), *SIZE) for bitmap in bitmaps)
    return Result(shown, Masks(rles, SIZE), {0: "ball", 1: "box"}, SIZE)


def ids_of(result: Result) -> list[int]:
    assert result.boxes.id is not None
    found: list[int] = result.boxes.id.tolist()
    return found


def test_similarity_is_that_of_whole_bitmaps() -> None:
    """Against bitmaps of the whole picture, with the earlier one moved."""
    one, other, far = (30.0, 30.0, 12.0), (41.0, 33.0, 11.0), (120.0, 90.0, 8.0)
    shapes = [Shape(rle, box.double().numpy(), 0) for rle, box in _rows(result_of([one, other, far]))]
    found = similarities([shapes[0]], np.array([[7.0, 2.0]]), shapes[1:])
    moved = np.roll(disc(one), (2, 7), (0, 1))
    iou = (moved & disc(other)).sum() / (moved | disc(other)).sum()
    boxes = [np.array([25.0, 20, 50, 45]), np.array([30.0, 22, 53, 45])]
    grown = [box + 0.3 * np.array([-1, -1, 1, 1]) * (box[2] - box[0]) for box in boxes]
    low, high = np.maximum(grown[0][:2], grown[1][:2]), np.minimum(grown[0][2:], grown[1][2:])
    shared = np.prod(high - low)
    union = sum(np.prod(box[2:] - box[:2]) for box in grown) - shared
    assert found[0, 0] == pytest.approx(0.5 * iou + 0.5 * shared / union)
    assert found[0, 1] == 0


def _rows(result: Result) -> list[tuple[dict, torch.Tensor]]:
    return list(zip(result.masks.rle, result.boxes.xyxy, strict=True))


def test_the_best_sum_wins_and_weak_pairs_take_no_partner() -> None:
    similar = np.array([[0.9, 0.8, 0.0], [0.8, 0.1, 0.0], [0.0, 0.0, 0.05]])
    assert pair_up(similar, 0.2) == [(0, 1), (1, 0)]
    assert pair_up(np.zeros((0, 3)), 0.2) == []


def test_ids_survive_absence_and_crossing() -> None:
    """Two balls cross; one is hidden for five frames. Each keeps its number."""
    tracker, seen = Tracker(patience=6), []
    for frame in range(30):
        balls = [(10.0 + 4 * frame, 40.0, 6.0), (130.0 - 4 * frame, 52.0, 6.0)]
        shown = [ball for index, ball in enumerate(balls) if not (index == 0 and 12 <= frame < 17)]
        seen.append(ids_of(tracker.update(result_of(shown), frame)))
    assert seen[0] == [1, 2]
    assert seen[14] == [2]
    assert seen[20] == seen[29] == [1, 2]
    assert tracker.started == 2


def test_a_track_ends_after_its_patience() -> None:
    tracker = Tracker(patience=2)
    ball = [(40.0, 40.0, 8.0)]
    assert ids_of(tracker.update(result_of(ball), 0)) == [1]
    assert ids_of(tracker.update(result_of(ball), 3)) == [1]
    assert ids_of(tracker.update(result_of(ball), 7)) == [2]


def test_a_faint_instance_continues_a_track_and_begins_none() -> None:
    tracker = Tracker()
    place: list[Disc] = [(40.0, 40.0, 8.0), (100.0, 40.0, 8.0)]
    tracker.update(result_of(place[:1]))
    found = tracker.update(result_of(place, [0.2, 0.2]))
    assert ids_of(found) == [1]
    assert len(found) == 1


def test_classes_do_not_mix() -> None:
    tracker = Tracker()
    place: list[Disc] = [(40.0, 40.0, 8.0)]
    assert ids_of(tracker.update(result_of(place, labels=[0]))) == [1]
    assert ids_of(tracker.update(result_of(place, labels=[1]))) == [2]


def test_ids_reach_every_form_of_a_result() -> None:
    found = Tracker().update(result_of([(40.0, 40.0, 8.0), (90.0, 40.0, 8.0)]))
    assert found[1].boxes.id.tolist() == [2]
    assert found.boxes.is_track
    assert found.boxes.data.shape == (2, 7)
    assert found.boxes.data[:, 4].tolist() == [1, 2]
    assert found.numpy().boxes.id.tolist() == [1, 2]
    assert [record["track_id"] for record in found.to_coco()] == [1, 2]
    assert [record["track_id"] for record in found.summary()] == [1, 2]
    assert found.to_csv().splitlines()[0].endswith(",track_id")
    assert found.to_supervision().tracker_id.tolist() == [1, 2]
    assert result_of([(40.0, 40.0, 8.0)]).to_supervision().tracker_id is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"high": 1.5}, "high: expected a number from 0 to 1, got 1.5"),
        ({"high": 0.2, "low": 0.4}, "low: expected at most high"),
        ({"patience": -1}, "patience: expected at least 0 frames"),
    ],
)
def test_settings_out_of_range(settings: dict[str, float], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Tracker(**settings)


def test_frames_go_forward() -> None:
    tracker = Tracker()
    tracker.update(result_of([]), 5)
    with pytest.raises(UsageError, match="frame: expected more than 5, got 5"):
        tracker.update(result_of([]), 5)


def test_a_crowd_is_followed_as_motmetrics_counts() -> None:
    """Thirty balls that bounce, a tenth of them missed at random: IDF1 and MOTA by an independent library."""
    mm = pytest.importorskip("motmetrics")
    rng = np.random.default_rng(0)
    places = rng.uniform(10, 110, (30, 2)) * [1.25, 0.9]
    speeds = rng.uniform(-2, 2, (30, 2))
    tracker, counted = Tracker(), mm.MOTAccumulator(auto_id=True)
    for frame in range(60):
        places += speeds
        for axis, end in ((0, 155), (1, 115)):
            out = (places[:, axis] < 5) | (places[:, axis] > end)
            speeds[out, axis] *= -1
        discs = [(float(x), float(y), 4.0) for x, y in places]
        shown = [index for index in range(30) if rng.random() > 0.1]
        found = tracker.update(result_of([discs[index] for index in shown]), frame)
        truth = result_of(discs).boxes.xywh[:, :2].numpy()
        distances = mm.distances.norm2squared_matrix(truth, found.boxes.xywh[:, :2].numpy(), max_d2=16.0)
        counted.update(list(range(30)), ids_of(found), distances)
    scores = mm.metrics.create().compute(counted, metrics=["idf1", "mota", "num_switches"], name="balls")
    assert scores["idf1"].item() > 0.85
    assert scores["mota"].item() > 0.88


def test_a_camera_that_jumps_keeps_the_numbers() -> None:
    """Nine balls in place, before a camera that jumps; without its compensation three to nine new tracks begin."""
    places = [(20.0 + 30 * column, 20.0 + 30 * row) for row in range(3) for column in range(3)]
    for seed in (0, 3):
        tracker = Tracker()
        for x, y in np.random.default_rng(seed).uniform(-6, 6, (20, 2)):
            found = tracker.update(result_of([(a + x, b + y, 9.0) for a, b in places]))
        assert ids_of(found) == list(range(1, 10))
        assert tracker.started == 9


def test_a_false_detection_becomes_no_long_track() -> None:
    """A track that began at 0.55 takes no faint instance that would bring its running mean below 0.5."""
    tracker, ball = Tracker(), [(40.0, 40.0, 8.0)]
    tracker.update(result_of(ball, [0.55]))
    lengths = [len(tracker.update(result_of(ball, [0.3]))) for _ in range(6)]
    assert lengths == [1, 1, 0, 0, 0, 0]  # 0.525, 0.5025, then 0.482
    assert ids_of(tracker.update(result_of(ball, [0.9]))) == [1]

"""The analysis against hotcoco on whole data sets, pycocotools, and hand-worked cases."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from condinst.config import Config
from condinst.data.formats.coco.read import read_coco
from condinst.data.sample import AnnotatedData
from condinst.evaluation.analysis import Analysis, Fit, analyse, examine, rank_worst
from condinst.evaluation.judge import Error, judge
from condinst.evaluation.measures import best_point
from condinst.inference.instances.boxes import Boxes
from condinst.inference.instances.masks import Masks
from condinst.inference.result import Result
from condinst.ops.bitmaps.rle import Region, Rle, decode, encode

DATA = Path(__file__).parent.parent / "data"
SETS = [("coco_mini", "train"), ("facade", "val"), ("mushrooms", "val"), ("nuclei", "val")]
LIMIT = 1000


class Careless:
    """Answers with the truth of a data set and makes every kind of error: misses, shifts, doubles, mixes."""

    def __init__(self, data: AnnotatedData, seed: int = 0) -> None:
        self.config = Config.from_dict({"detect": {"max_detections": LIMIT}})
        self.names = dict(enumerate(data.classes))
        self.samples = {sample.path: sample for sample in data.samples}
        self.seed = seed

    def __call__(self, source: Path) -> Result:
        sample = self.samples[source]
        rng = np.random.default_rng((self.seed, sample.image_id))
        size = (sample.height, sample.width)
        rles: list[Rle] = []
        labels: list[int] = []
        for instance in sample.instances:
            assert instance.shape is not None
            whole = decode(instance.shape.whole(*size))
            side = np.sqrt(whole.sum())
            for reach in (0.1, 0.6, 1.2)[: rng.integers(0, 4)]:
                moved = np.roll(whole, np.rint(rng.normal(0, reach * side / 4, 2)).astype(int), (0, 1))
                rles.append(encode(Region(moved, 0, 0), *size))
                mixed = rng.integers(len(self.names))
                labels.append(int(rng.choice([instance.label, mixed], p=[0.8, 0.2])))
        scores = np.sort(rng.random(len(rles)))[::-1].astype(np.float32)
        corners = [boxes(rle) for rle in rles]
        return Result(
            Boxes(
                torch.tensor(corners, dtype=torch.float32).reshape(-1, 4),
                torch.from_numpy(scores.copy()),
                torch.tensor(labels, dtype=torch.long),
                size,
            ),
            Masks(tuple(rles), size),
            self.names,
            size,
        )


def boxes(rle: Rle) -> list[float]:
    x, y, width, height = coco_mask.toBbox(dict(rle))
    return [x, y, x + width, y + height]


def opened(name: str, split: str) -> AnnotatedData:
    return read_coco(DATA / name / f"{split}.json", DATA / name / "images")


def records(data: AnnotatedData, predictor: Careless, kind: str) -> list[dict[str, Any]]:
    ids = dict(enumerate(data.category_ids))
    wanted = ("image_id", "category_id", "score", "bbox" if kind == "bbox" else "segmentation")
    return [
        {key: value for key, value in record.items() if key in wanted}
        for sample in data.samples
        for record in predictor(sample.path).to_coco(sample.image_id, ids)
    ]


def whole(name: str, split: str, found: list[dict[str, Any]], kind: str) -> Any:
    """hotcoco's evaluation with all masks in memory, which has the diagnostics that streaming does not."""
    truth = hotcoco.COCO(str(DATA / name / f"{split}.json"))
    evaluation = hotcoco.COCOeval(truth, truth.load_res(found), kind)
    parameters = hotcoco.Params(kind)
    parameters.max_dets = [1, 10, LIMIT]
    evaluation.params = parameters
    evaluation.evaluate()
    return evaluation


def without_masks(data: AnnotatedData) -> AnnotatedData:
    samples = tuple(
        replace(sample, instances=tuple(replace(instance, shape=None) for instance in sample.instances))
        for sample in data.samples
    )
    return replace(data, samples=samples)


@pytest.mark.parametrize(("name", "split"), SETS)
@pytest.mark.parametrize("kind", ["segm", "bbox"])
def test_equals_the_analysis_in_memory(name: str, split: str, kind: str) -> None:
    data = opened(name, split)
    predictor = Careless(data)
    scores, found = examine(data if kind == "segm" else without_masks(data), predictor, LIMIT)
    assert found.kind == kind
    reference = whole(name, split, records(data, predictor, kind), kind)

    tide = reference.tide_errors()
    assert {cause: one.count for cause, one in found.causes.items()} == tide["counts"]
    for cause, one in found.causes.items():
        assert one.gain == pytest.approx(max(tide["delta_ap"][cause], 0), abs=1e-12), cause
    np.testing.assert_allclose(found.AP50, tide["ap_base"], atol=1e-12)
    np.testing.assert_allclose(found.AP50, getattr(scores, kind).AP50, atol=1e-12)

    calibration = reference.calibration()
    assert (found.calibration.error, found.calibration.worst) == (calibration["ece"], calibration["mce"])
    assert [one.count for one in found.calibration.bins] == [one["count"] for one in calibration["bins"]]

    expected = reference.confusion_matrix(min_score=found.confusion.score)["matrix"].astype(int)
    more = expected - np.array(found.confusion.matrix)  # hotcoco calls predictions on a crowd false
    assert not more[:-1].any()
    assert (more[-1] >= 0).all()
    assert (more.sum() > 0) == any(instance.crowd for sample in data.samples for instance in sample.instances)


class RimEval(COCOeval):
    """pycocotools with Boundary AP's IoU: rims by brute force, one pixel at a time."""

    def computeIoU(self, imgId: int, catId: int) -> Any:  # noqa: N802
        areas = super().computeIoU(imgId, catId)
        truths, found = self._gts[imgId, catId], self._dts[imgId, catId]
        found = sorted(found, key=lambda record: -record["score"])[: self.params.maxDets[-1]]
        for row, column in np.argwhere(np.asarray(areas) > 0):
            if not truths[column]["iscrowd"]:
                ours, theirs = (peel(self.decoded(one)) for one in (found[row], truths[column]))
                areas[row, column] = min(areas[row, column], (ours & theirs).sum() / (ours | theirs).sum())
        return areas

    def decoded(self, record: dict[str, Any]) -> np.ndarray:
        return np.asarray(coco_mask.decode(self.cocoGt.annToRLE(record)), dtype=bool)


def peel(mask: np.ndarray) -> np.ndarray:
    """What of a mask is gone once its outermost pixels, by the eight neighbours, were taken off so many times."""
    inside = np.pad(mask, 1)
    for _ in range(max(1, round(0.02 * np.hypot(*mask.shape)))):
        neighbours = [np.roll(inside, (down, right), (0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1)]
        inside = np.logical_and.reduce(neighbours)
    return mask & ~inside[1:-1, 1:-1]


@pytest.mark.parametrize(("name", "split"), [("coco_mini", "val"), ("facade", "val"), ("nuclei", "val")])
def test_curves_and_boundary_AP_equal_pycocotools(name: str, split: str) -> None:  # noqa: N802
    data = opened(name, split)
    predictor = Careless(data, seed=1)
    found = examine(data, predictor, LIMIT)[1]
    truth = COCO(str(DATA / name / f"{split}.json"))
    results = truth.loadRes(records(data, predictor, "segm"))
    precisions = []
    for kind in (COCOeval, RimEval):
        evaluation = kind(truth, results, "segm")
        evaluation.params.maxDets = [1, 10, LIMIT]
        evaluation.evaluate()
        evaluation.accumulate()
        precisions.append(evaluation.eval["precision"][:, :, :, 0, -1])
    areas, rims = precisions  # (10 IoUs, 101 recalls, classes)
    present = areas[0, 0] > -1
    for curve, place in zip(found.curves, (0, 5), strict=True):
        np.testing.assert_allclose(curve.precision, areas[place][:, present].mean(axis=1), atol=5e-5)
    for label, counts in enumerate(found.per_class.values()):
        assert (counts.truths > 0) == present[label]
        np.testing.assert_allclose(counts.AP50, areas[0, :, label].mean(), atol=1e-12)
        np.testing.assert_allclose(counts.boundary, rims[..., label].mean(), atol=1e-12)
    assert found.boundary is not None
    expected = [rims[..., present].mean(), rims[0][:, present].mean(), rims[5][:, present].mean()]
    np.testing.assert_allclose([found.boundary.AP, found.boundary.AP50, found.boundary.AP75], expected, atol=1e-12)
    assert 0 < found.boundary.AP < areas[..., present].mean()


def strip(left: int, right: int) -> Rle:
    """10 × 100 pixels, set in the columns [left, right)."""
    return encode(Region(np.ones((10, right - left), dtype=bool), left, 0), 10, 100)


def annotated(label: int, left: int, right: int, crowd: bool = False) -> dict[str, Any]:
    return {"category_id": label, "segmentation": strip(left, right), "iscrowd": int(crowd)}


def predicted(label: int, left: int, right: int, score: float) -> dict[str, Any]:
    return {"category_id": label, "segmentation": strip(left, right), "score": score}


def test_one_picture_by_hand() -> None:
    truths = [
        annotated(7, 0, 10),
        annotated(7, 20, 30),
        annotated(9, 40, 50),
        annotated(7, 60, 70),
        annotated(9, 80, 100, crowd=True),
    ]
    found = [
        predicted(7, 0, 8, 0.9),  # IoU 0.8: right at 0.5 and at 0.75
        predicted(7, 0, 10, 0.8),  # exact, but too late
        predicted(7, 20, 24, 0.7),  # IoU 0.4 with the second
        predicted(7, 20, 23, 0.65),  # 0.3 with the same: were its place right, it would still be a double
        predicted(7, 40, 49, 0.6),  # the third, of the other class
        predicted(9, 60, 64, 0.5),  # 0.4 with the fourth, of the other class
        predicted(9, 85, 90, 0.4),  # on the crowd
        predicted(7, 85, 90, 0.3),  # on a crowd of another class
    ]
    one = judge("a.png", truths, found, (7, 9), "segm", LIMIT)
    kinds = ["none", "duplicate", "localisation", "localisation", "classification", "both", "none", "background"]
    assert [Error(error).name for error in one.errors] == kinds
    assert one.corrected.tolist() == [-1, -1, 0, -1, 1, -1, -1, -1]
    assert one.met.tolist() == [0, -1, -1, -1, 1, -1, -2, -1]
    assert one.missed.tolist() == [False, False, False, True]
    assert one.areas.right[[0, 5, 7], 0].tolist() == [True, True, False]
    assert one.areas.right[7].tolist() == [False, True] + [False] * 6  # at 0.85 the first leaves it to the second
    assert one.areas.ignored[0].tolist() == [False] * 6 + [True, False]
    found_of = analyse([one], ("a", "b"), "segm")
    assert found_of.pictures == (Fit("a.png", 4, 1, 1, 1),)  # best F1: from 0.9 on
    assert found_of.confusion.matrix == ((1, 0, 2), (0, 0, 1), (0, 0, 0))
    assert {name: cause.count for name, cause in found_of.causes.items()} == {
        "Cls": 1,
        "Loc": 2,
        "Both": 1,
        "Dupe": 1,
        "Bkg": 1,
        "Miss": 1,
    }


CLS = [predicted(7, 40, 45, 0.95), predicted(7, 0, 10, 0.9)]  # IoU 0.5 with the other class's, then a right one


@pytest.mark.parametrize(
    ("more", "count", "base", "gain"),
    [
        # a: wrong, right → 1/2; b: nothing → 0. Repaired, both are 1
        ([], 1, (1 / 2 + 0) / 2, 3 / 4),
        # a: wrong, wrong, right → 1/3. The better of the two takes the object of b, the other goes
        ([predicted(7, 40, 50, 0.97)], 2, (1 / 3 + 0) / 2, 5 / 6),
        # the object of b is found already: both go
        ([predicted(7, 40, 50, 0.97), predicted(9, 40, 50, 0.1)], 2, (1 / 3 + 1) / 2, 1 / 3),
    ],
)
def test_gain_from_fixing_wrong_classes(more: list[dict[str, Any]], count: int, base: float, gain: float) -> None:
    truths = [annotated(7, 0, 10), annotated(9, 40, 50)]
    found = analyse([judge("a.png", truths, [*CLS, *more], (7, 9), "segm", LIMIT)], ("a", "b"), "segm")
    assert pytest.approx(base) == found.AP50
    assert (found.causes["Cls"].count, found.causes["Cls"].gain) == (count, pytest.approx(gain))
    assert not any(cause.count for name, cause in found.causes.items() if name != "Cls")


def test_gain_from_fixing_class_and_location_errors() -> None:
    """a: one of two objects found, precision 1 at the recalls 0 … 0.5, 51 of the 101. b: wrong, right → 1/2."""
    truths = [annotated(7, 0, 10), annotated(7, 60, 70), annotated(9, 80, 90)]
    both = predicted(9, 60, 64, 0.9)  # IoU 0.4 with an object of a
    found = [predicted(7, 0, 10, 0.5), both, predicted(9, 80, 90, 0.8)]
    causes = analyse([judge("a.png", truths, found, (7, 9), "segm", LIMIT)], ("a", "b"), "segm").causes
    assert (causes["Both"].count, causes["Both"].gain) == (1, pytest.approx(1 / 4))  # it goes, and b is 1
    assert (causes["Miss"].count, causes["Miss"].gain) == (1, pytest.approx(50 / 101 / 2))  # a is 1
    assert sum(cause.count for cause in causes.values()) == 2


def test_the_limit_is_of_each_class() -> None:
    found = [predicted(label, 0, 10, score) for score in (0.9, 0.8, 0.7) for label in (7, 9)]
    one = judge("a.png", [], found, (7, 9), "segm", 2)
    assert one.scores.tolist() == [0.9, 0.9, 0.8, 0.8]
    assert one.labels.tolist() == [0, 1, 0, 1]


def test_best_point_equals_trying_every_score() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        count = int(rng.integers(1, 30))
        scores = np.sort(rng.random(count).round(1))[::-1]
        right = rng.random(count) < 0.5
        truths = int(right.sum() + rng.integers(0, 5))
        tried = {}
        for score in np.unique(scores):
            hits, counted = right[scores >= score].sum(), (scores >= score).sum()
            tried[score] = 2 * hits / (counted + truths) if truths else 0
        best = best_point(scores, right, truths)
        assert best.f1 == max(tried.values())
        if best.f1:
            assert best.score == max(score for score, f1 in tried.items() if f1 == best.f1)
            assert best.recall == right[scores >= best.score].sum() / truths


def nothing(analysis: Analysis) -> bool:
    json.dumps(analysis.to_dict(), allow_nan=False)
    return not any(cause.gain for cause in analysis.causes.values()) and analysis.best.score == 0


def test_empty_data() -> None:
    assert nothing(analyse([], ("a", "b"), "segm"))
    truths, found = [annotated(7, 0, 10)], [predicted(7, 0, 10, 0.9)]
    no_truth = analyse([judge("a.png", [], found, (7,), "segm", LIMIT)], ("a",), "segm")
    assert nothing(no_truth)
    assert (no_truth.AP50, no_truth.per_class["a"].AP50, no_truth.curves[0].precision) == (-1, -1, ())
    assert (no_truth.confusion.matrix, no_truth.causes["Bkg"].count) == (((0, 0), (1, 0)), 1)
    no_predictions = analyse([judge("a.png", truths, [], (7,), "segm", LIMIT)], ("a",), "segm")
    assert no_predictions.AP50 == 0
    assert no_predictions.confusion.matrix == ((0, 1), (0, 0))
    assert (no_predictions.causes["Miss"].count, no_predictions.pictures) == (1, (Fit("a.png", 1, 0, 0, 0),))
    crowd_alone = analyse([judge("a.png", [annotated(7, 0, 10, True)], found, (7,), "segm", LIMIT)], ("a",), "segm")
    assert nothing(crowd_alone)
    assert crowd_alone.pictures == (Fit("a.png", 0, 0, 0, 0),)
    absent = analyse([judge("a.png", truths, found, (7, 9), "segm", LIMIT)], ("a", "b"), "segm")
    np.testing.assert_allclose([absent.AP50, absent.per_class["a"].AP50, absent.per_class["b"].AP50], [1, 1, -1])
    assert absent.boundary is not None
    assert pytest.approx(1) == absent.boundary.AP


def test_worst_pictures_first() -> None:
    fits = [Fit("good", 4, 4, 4, 4), Fit("bad", 9, 9, 0, 0), Fit("few", 1, 0, 0, 0), Fit("empty", 0, 0, 0, 0)]
    fits.append(Fit("false", 0, 3, 0, 0))
    assert [one.file for one in rank_worst(fits)] == ["bad", "false", "few", "good", "empty"]

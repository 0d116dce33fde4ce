"""What a model does right and wrong: precision and recall, confusion, causes of errors, calibration, outlines.

Everything is measured at an IoU of 0.5 unless a name says otherwise; of masks, or of boxes where masks are not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hotcoco import metrics

from condinst.config import SHOWN_SCORE
from condinst.data.sample import AnnotatedData
from condinst.evaluation.evaluate import Predicts, Progress, Scores, count_boxed, evaluate, renumber
from condinst.evaluation.judge import IOUS, RIGHT, STRICT, Bools, Floats, Judged, Kind, judge
from condinst.evaluation.measures import (
    Point,
    Whole,
    best_point,
    count_confusion,
    join,
    mean,
    measure_rims,
    precisions,
    price_errors,
)

BINS = 10  # of scores, for calibration


@dataclass(frozen=True)
class Curve:
    """Precision at the recalls 0, 0.01 … 1, the mean over the classes with truth; empty if there are none."""

    iou: float
    precision: tuple[float, ...]


@dataclass(frozen=True)
class ClassCounts:
    """A class in numbers. AP50, boundary AP: −1 without truth, and for boxes. best: of this class alone.

    curve: precision at the recalls 0, 0.01 … 1, at IoU 0.5.
    """

    truths: int
    predictions: int
    AP50: float
    boundary: float
    best: Point
    curve: tuple[float, ...]


@dataclass(frozen=True)
class Confusion:
    """matrix[true][predicted] counts pairs of object and prediction from `score` on; pairs form whatever the class.

    The last place is background: its column counts missed objects, its row false predictions.
    """

    score: float
    matrix: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Cause:
    """One of TIDE's causes of errors (Bolya et al. 2020): how many there are, and the gain in AP50 without them."""

    count: int
    gain: float


@dataclass(frozen=True)
class Bin:
    """Predictions with scores from `low` to `high`: how many, their mean score, and the share of them that is right."""

    low: float
    high: float
    count: int
    score: float
    right: float


@dataclass(frozen=True)
class Calibration:
    """error: mean distance between score and share that is right (ECE). worst: the same of the worst bin (MCE)."""

    error: float
    worst: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class Boundary:
    """AP by the smaller of the masks' IoU and that of their rims, 2 % of the diagonal deep (Cheng et al. 2021)."""

    AP: float
    AP50: float
    AP75: float


@dataclass(frozen=True)
class Fit:
    """How well one picture came out: counts, and how many masks match at IoU 0.5 and 0.75. Crowds do not count."""

    file: str
    objects: int
    predicted: int
    matched50: int
    matched75: int

    @property
    def f1(self) -> tuple[float, float]:
        """At IoU 0.5 and at 0.75."""
        both = max(self.objects + self.predicted, 1)
        return 2 * self.matched50 / both, 2 * self.matched75 / both

    @property
    def score(self) -> float:
        """The mean of the two F1: what pictures are ranked by."""
        return sum(self.f1) / 2


@dataclass(frozen=True)
class Analysis:
    """kind: "segm", or "bbox" where masks are not known. best: the point of greatest F1, all classes together.

    AP50: mean over the classes with truth. causes: by TIDE's names Cls, Loc, Both, Dupe, Bkg, Miss. boundary: None for
    boxes. pictures: worst first, counted as `confusion` is: from the score of `best` on, or SHOWN_SCORE if nothing is
    right.
    """

    kind: Kind
    AP50: float
    best: Point
    curves: tuple[Curve, ...]
    per_class: dict[str, ClassCounts]
    confusion: Confusion
    causes: dict[str, Cause]
    calibration: Calibration
    boundary: Boundary | None
    pictures: tuple[Fit, ...]

    def worst(self, most: int) -> tuple[Fit, ...]:
        """The worst pictures, those left out where all is right."""
        return tuple(one for one in self.pictures if one.objects + one.predicted and one.score < 1)[:most]

    def best_pictures(self, most: int) -> tuple[Fit, ...]:
        """The pictures that came out best, best first. Only pictures with objects, most of them found, take part."""
        good = (one for one in reversed(self.pictures) if one.objects and one.score >= 0.5)
        return tuple(sorted(good, key=lambda one: (-one.score, -one.objects)))[:most]

    def to_dict(self) -> dict[str, Any]:
        """Plain containers for JSON."""
        return asdict(self)


def examine(
    data: AnnotatedData, predictor: Predicts, max_detections: int = 100, progress: Progress | None = None
) -> tuple[Scores, Analysis]:
    """`evaluate`, and from the same predictions what they do right and wrong. No masks are kept."""
    kind: Kind = "bbox" if count_boxed(data) else "segm"
    judged: list[Judged] = []
    numbers = renumber(data).category_ids
    scores = evaluate(
        data,
        predictor,
        max_detections,
        progress,
        lambda sample, truths, found: judged.append(
            judge(str(sample.path), truths, found, numbers, kind, max_detections)
        ),
    )
    return scores, analyse(judged, data.classes, kind)


def analyse(judged: Sequence[Judged], classes: Sequence[str], kind: Kind) -> Analysis:
    """Sum up judged pictures; `classes` are the names of the labels. Empty sets give zeros and −1, never an error."""
    whole = join(judged, len(classes))
    counted = ~whole.areas.ignored[RIGHT]
    best = _best(whole, counted, int(whole.counts.sum()))
    score = best.score if best.f1 else SHOWN_SCORE
    curves = {place: precisions(whole, whole.areas, place) for place in (RIGHT, STRICT)}
    rims = None if whole.rims is None else measure_rims(whole, whole.rims)
    return Analysis(
        kind=kind,
        AP50=mean(curves[RIGHT].mean(axis=1)),
        best=best,
        curves=tuple(
            Curve(float(IOUS[place]), _rounded(curve[whole.counts > 0].mean(axis=0)) if whole.counts.any() else ())
            for place, curve in curves.items()
        ),
        per_class={
            name: ClassCounts(
                truths=int(whole.counts[label]),
                predictions=int((counted & (whole.labels == label)).sum()),
                AP50=float(curves[RIGHT][label].mean()),
                boundary=-1.0 if rims is None else mean(rims[:, label]),
                best=_best(whole, counted & (whole.labels == label), int(whole.counts[label])),
                curve=_rounded(curves[RIGHT][label]) if whole.counts[label] else (),
            )
            for label, name in enumerate(classes)
        },
        confusion=Confusion(score, tuple(tuple(row) for row in count_confusion(whole, score).tolist())),
        causes={name: Cause(*price) for name, price in price_errors(whole).items()},
        calibration=_calibrate(whole, counted),
        boundary=None if rims is None else Boundary(mean(rims), mean(rims[RIGHT]), mean(rims[STRICT])),
        pictures=rank_worst([fit(one, score) for one in judged]),
    )


def fit(judged: Judged, score: float) -> Fit:
    """One picture's counts of the predictions from `score` on."""
    shown = (judged.scores >= score) & ~judged.areas.ignored[RIGHT]
    right = judged.areas.right[:, shown].sum(axis=1)
    return Fit(judged.file, len(judged.truths), int(shown.sum()), int(right[RIGHT]), int(right[STRICT]))


def rank_worst(fits: Sequence[Fit]) -> tuple[Fit, ...]:
    """By the mean of the two F1, ties by errors, then by file; pictures where there is nothing come last."""

    def key(one: Fit) -> tuple[bool, float, int, str]:
        errors = one.objects + one.predicted - 2 * one.matched50
        return not (one.objects or one.predicted), one.score, -errors, one.file

    return tuple(sorted(fits, key=key))


def _best(whole: Whole, of: Bools, truths: int) -> Point:
    return best_point(whole.scores[of], whole.areas.right[RIGHT][of], truths)


def _calibrate(whole: Whole, counted: Bools) -> Calibration:
    scores, right = whole.scores[counted], whole.areas.right[RIGHT][counted]
    error, worst = metrics.calibration_error(scores, right, BINS)
    bins = [
        Bin(one["bin_lower"], one["bin_upper"], one["count"], one["avg_confidence"], one["avg_accuracy"])
        for one in metrics.calibration_curve(scores, right, BINS)
    ]
    return Calibration(error, worst, tuple(bins))


def _rounded(values: Floats) -> tuple[float, ...]:
    return tuple(values.round(4).tolist())

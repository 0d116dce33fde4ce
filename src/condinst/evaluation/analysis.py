"""Analysis of a model's predictions: precision and recall, confusion, causes of errors, calibration, boundaries.

All numbers refer to an IoU of 0.5 unless the name says otherwise. They refer to masks, or to boxes if the data set has
objects without a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hotcoco import metrics

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
from condinst.settings.prediction import SHOWN_SCORE

BINS = 10  # bins of scores, for the calibration


@dataclass(frozen=True)
class Curve:
    """Precision at recall 0, 0.01, …, 1: the mean over the classes with annotated objects, or empty without any."""

    iou: float
    precision: tuple[float, ...]


@dataclass(frozen=True)
class ClassCounts:
    """The numbers of one class.

    truths, predictions: number of annotated objects and of predictions. AP50: −1 without annotated objects. boundary:
    boundary AP, −1 without annotated objects and for boxes. best: the point of highest F1 for this class. curve:
    precision at recall 0, 0.01, …, 1, at IoU 0.5.
    """

    truths: int
    predictions: int
    AP50: float
    boundary: float
    best: Point
    curve: tuple[float, ...]


@dataclass(frozen=True)
class Confusion:
    """The confusion matrix. `matrix[true][predicted]` counts pairs of an object and a prediction, of any class.

    score: lowest score of a counted prediction. The last row and column stand for background: the column counts missed
    objects, the row false predictions.
    """

    score: float
    matrix: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Cause:
    """A cause of errors as in TIDE (Bolya et al. 2020). count: number of errors. gain: AP50 gained by fixing them."""

    count: int
    gain: float


@dataclass(frozen=True)
class Bin:
    """The predictions with scores from `low` to `high`: number, mean score, and share of correct ones in [0, 1]."""

    low: float
    high: float
    count: int
    score: float
    right: float


@dataclass(frozen=True)
class Calibration:
    """How well scores match accuracy.

    error: mean distance between the score and the share of correct predictions (ECE). worst: the same distance in the
    worst bin (MCE). bins: the single bins.
    """

    error: float
    worst: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class Boundary:
    """Boundary AP (Cheng et al. 2021): AP with the smaller of mask IoU and IoU of the rims.

    The depth of a rim is 2 % of the picture's diagonal.
    """

    AP: float
    AP50: float
    AP75: float


@dataclass(frozen=True)
class Fit:
    """The counts of one picture, without crowd regions.

    objects, predicted: number of annotated objects and of predictions. matched50, matched75: number of pairs at IoU 0.5
    and 0.75.
    """

    file: str
    objects: int
    predicted: int
    matched50: int
    matched75: int

    @property
    def f1(self) -> tuple[float, float]:
        """F1 at IoU 0.5 and at IoU 0.75."""
        both = max(self.objects + self.predicted, 1)
        return 2 * self.matched50 / both, 2 * self.matched75 / both

    @property
    def score(self) -> float:
        """The mean of the two F1. Pictures are ranked by it."""
        return sum(self.f1) / 2


@dataclass(frozen=True)
class Analysis:
    """The analysis of a model's predictions on a data set.

    kind: "segm" for masks, or "bbox" if the data set has objects without a mask.
    AP50: the mean over the classes with annotated objects.
    best: the point of highest F1 of all classes together.
    curves: precision over recall at IoU 0.5 and 0.75.
    per_class: the numbers of each class, by name.
    causes: the causes of errors by their names in TIDE: Cls, Loc, Both, Dupe, Bkg, Miss.
    boundary: boundary AP, or None for boxes.
    pictures: the counts of each picture, worst first. `confusion` and `pictures` count predictions from the score of
        `best` on, or from SHOWN_SCORE on if no prediction is correct.
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
        """At most `most` pictures with errors, worst first."""
        return tuple(one for one in self.pictures if one.objects + one.predicted and one.score < 1)[:most]

    def best_pictures(self, most: int) -> tuple[Fit, ...]:
        """At most `most` of the best pictures, best first. Each has objects and a mean F1 of at least 0.5."""
        good = (one for one in reversed(self.pictures) if one.objects and one.score >= 0.5)
        return tuple(sorted(good, key=lambda one: (-one.score, -one.objects)))[:most]

    def to_dict(self) -> dict[str, Any]:
        """The analysis as dicts and lists, ready for JSON."""
        return asdict(self)


def examine(
    data: AnnotatedData, predictor: Predicts, max_detections: int = 100, progress: Progress | None = None
) -> tuple[Scores, Analysis]:
    """Run `evaluate` and analyse the same predictions. Masks are not kept. Raises the errors of `evaluate`."""
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
    """Summarise judged pictures. classes: the name of each label. An empty data set gives zeros and −1."""
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
    """The counts of one picture, for predictions from `score` on."""
    shown = (judged.scores >= score) & ~judged.areas.ignored[RIGHT]
    right = judged.areas.right[:, shown].sum(axis=1)
    return Fit(judged.file, len(judged.truths), int(shown.sum()), int(right[RIGHT]), int(right[STRICT]))


def rank_worst(fits: Sequence[Fit]) -> tuple[Fit, ...]:
    """Sort pictures by the mean of the two F1, then by the number of errors, then by file. Empty pictures come last."""

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

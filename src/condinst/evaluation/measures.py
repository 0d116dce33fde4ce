"""Metrics of a data set from its judged pictures. hotcoco computes the curves and average precisions.

Shapes: N predictions of all pictures, M annotated objects, C classes, T = 10 IoU thresholds of COCO. The AP of a class
without annotated objects is −1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from hotcoco import metrics
from numpy.typing import NDArray

from condinst.evaluation.judge import CROWD, IOUS, NOTHING, RIGHT, Bools, Error, Floats, Ints, Judged, Matches

Number = TypeVar("Number", np.float64, np.int64, np.bool_)
RECALLS: Floats = np.linspace(0, 1, 101)
CAUSES = {
    "Cls": Error.classification,
    "Loc": Error.localisation,
    "Both": Error.both,
    "Dupe": Error.duplicate,
    "Bkg": Error.background,
}


class Whole(NamedTuple):
    """The judgements of all pictures, with the fields of `Judged`. All predictions are sorted by score.

    counts: (C,) int64, number of annotated objects. missed: (C,) int64, number of missed objects.
    """

    scores: Floats
    labels: Ints
    areas: Matches
    rims: Matches | None
    met: Ints
    errors: Ints
    corrected: Ints
    counts: Ints
    missed: Ints


def join(judged: Sequence[Judged], classes: int) -> Whole:
    """Join judged pictures and sort predictions by score. Equal scores keep their order, as in COCO's evaluation."""
    scores = _joined([one.scores for one in judged], np.float64)
    order = np.argsort(-scores, kind="stable")

    def ordered(parts: list[Ints]) -> Ints:
        return _joined(parts, np.int64)[order]

    def matches(parts: list[Matches]) -> Matches:
        none = np.zeros((len(IOUS), 0), dtype=np.bool_)
        sides = (np.concatenate([none, *(part[side] for part in parts)], axis=1)[:, order] for side in (0, 1))
        return Matches(*sides)

    truths = _joined([one.truths for one in judged], np.int64)
    missed = _joined([one.missed for one in judged], np.bool_)
    rims = [one.rims for one in judged if one.rims is not None]
    return Whole(
        scores=scores[order],
        labels=ordered([one.labels for one in judged]),
        areas=matches([one.areas for one in judged]),
        rims=matches(rims) if len(rims) == len(judged) else None,
        met=ordered([one.met for one in judged]),
        errors=ordered([one.errors for one in judged]),
        corrected=ordered([one.corrected for one in judged]),
        counts=np.bincount(truths, minlength=classes),
        missed=np.bincount(truths[missed], minlength=classes),
    )


@dataclass(frozen=True)
class Point:
    """A score threshold with its F1, precision and recall. All are 0 if no prediction is correct."""

    score: float
    f1: float
    precision: float
    recall: float


def best_point(scores: Floats, right: Bools, truths: int) -> Point:
    """The point of highest F1, and of equal ones the highest score.

    scores, right: (K,), best first, without ignored predictions. truths: number of annotated objects.
    """
    hits = right.cumsum()
    if not truths or not right.any():
        return Point(0.0, 0.0, 0.0, 0.0)
    counted = np.arange(1, len(scores) + 1)
    f1 = 2 * hits / (counted + truths)
    f1[:-1][scores[1:] == scores[:-1]] = -1  # a threshold cannot separate equal scores
    place = int(f1.argmax())
    return Point(
        float(scores[place]), float(f1[place]), float(hits[place] / counted[place]), float(hits[place] / truths)
    )


def precisions(whole: Whole, matches: Matches, place: int) -> Floats:
    """Precision (C, 101) at recall 0, 0.01, …, 1; −1 for a class without annotated objects. place: index of the IoU."""
    curves = np.zeros((len(whole.counts), len(RECALLS)))
    for label, count in enumerate(whole.counts):
        right = matches.right[place][(whole.labels == label) & ~matches.ignored[place]]
        if count and len(right):
            hits = right.cumsum()
            _, points = metrics.precision_recall_curve(hits, np.arange(1, len(right) + 1) - hits, int(count))
            for index, precision, _rank in points:
                curves[label, index] = precision
        elif not count:
            curves[label] = -1
    return curves


def count_confusion(whole: Whole, score: float) -> Ints:
    """The confusion matrix (C + 1, C + 1) for predictions from `score` on: true class × predicted class.

    The last row and column stand for background.
    """
    classes = len(whole.counts)
    shown = (whole.scores >= score) & (whole.met != CROWD)
    met, labels = whole.met[shown], whole.labels[shown]
    matrix = np.zeros((classes + 1, classes + 1), dtype=np.int64)
    np.add.at(matrix, (np.where(met == NOTHING, classes, met), labels), 1)
    matrix[:classes, classes] = whole.counts - matrix[:classes].sum(axis=1)
    return matrix


def measure_rims(whole: Whole, rims: Matches) -> Floats:
    """Boundary AP (T, C); −1 for a class without annotated objects."""
    measured = np.full((len(IOUS), len(whole.counts)), -1.0)
    for label in np.flatnonzero(whole.counts):
        mine = whole.labels == label
        for place, (right, ignored) in enumerate(zip(rims.right[:, mine], rims.ignored[:, mine], strict=True)):
            count = int(whole.counts[label])
            measured[place, label] = metrics.average_precision(whole.scores[mine], right, count, ignored)
    return measured


def price_errors(whole: Whole) -> dict[str, tuple[int, float]]:
    """For each cause of errors of TIDE: the number of errors, and the gain in AP50 from fixing only these errors."""
    scores, labels, counts = whole.scores, whole.labels, whole.counts
    right, counted = whole.areas.right[RIGHT], ~whole.areas.ignored[RIGHT]
    before = _mean_precision(scores[counted], labels[counted], right[counted], counts)
    prices = {}
    for name, cause in CAUSES.items():
        mine = whole.errors == cause
        mended = mine & (whole.corrected != NOTHING)  # after a fix, the others would be duplicates
        kept = counted & (~mine | mended)
        now = np.where(mended, whole.corrected, labels)
        after = _mean_precision(scores[kept], now[kept], (right | mended)[kept], counts)
        prices[name] = (int(mine.sum()), max(after - before, 0.0))
    found = _mean_precision(scores[counted], labels[counted], right[counted], counts, whole.missed)
    return prices | {"Miss": (int(whole.missed.sum()), max(found - before, 0.0))}


def mean(values: Floats) -> float:
    """The mean over the measured values, which are ≥ 0; −1 without any."""
    present = values[values >= 0]
    return float(present.mean()) if present.size else -1.0


def _mean_precision(scores: Floats, labels: Ints, right: Bools, counts: Ints, forgiven: Ints | None = None) -> float:
    """Mean AP over the classes with annotated objects, 0 without any. forgiven: (C,) objects that do not count."""
    expected = counts if forgiven is None else counts - forgiven
    each = [
        metrics.average_precision(scores[labels == label], right[labels == label], int(expected[label]))
        for label in np.flatnonzero(counts)
    ]
    return float(np.mean(each)) if each else 0.0


def _joined(parts: list[NDArray[Number]], kind: type[Number]) -> NDArray[Number]:
    return np.concatenate([np.zeros(0, dtype=kind), *parts])

"""Judge the predictions of one picture: which are correct, and the kind of error of the others. No masks are kept.

Shapes: K predictions, G annotated regions including crowd regions, M objects without crowd regions, T = 10 IoU
thresholds of COCO. Classes are labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Literal, NamedTuple

import numpy as np
from hotcoco import primitives
from numpy.typing import NDArray

from condinst.ops.bitmaps.boundary import rim, rim_depth

Kind = Literal["bbox", "segm"]
Record = dict[str, Any]  # a record as in a COCO file
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

IOUS: Floats = np.linspace(0.5, 0.95, 10)
RIGHT, STRICT = 0, 5  # indices of IoU 0.5, where a prediction counts as correct, and of IoU 0.75
BACKGROUND = 0.1  # a prediction with at most this IoU meets no object, as in TIDE
NOTHING, CROWD = -1, -2


class Error(IntEnum):
    """The kinds of errors of TIDE (Bolya et al. 2020)."""

    none = 0  # correct, or on a crowd region
    classification = 1  # IoU ≥ 0.5 with an object of another class
    localisation = 2  # 0.1 ≤ IoU ≤ 0.5 with an object of the same class
    both = 3  # none of the other errors
    duplicate = 4  # a prediction with a higher score has found the object
    background = 5  # IoU ≤ 0.1 with all objects


class Matches(NamedTuple):
    """right: (T, K) bool, finds an object of its class. ignored: (T, K) bool, lies on a crowd region."""

    right: Bools
    ignored: Bools


class Judged(NamedTuple):
    """The judgement of one picture. Predictions are best first, at most the limit of each class.

    scores: (K,) float64. labels: (K,) int64.
    areas: the matches by mask or box IoU. rims: the matches by boundary IoU, or None for boxes.
    met: (K,) int64, the class of the object that the prediction meets at IoU 0.5, of any class, one to one; NOTHING, or
        CROWD for a crowd region of its own class.
    errors: (K,) int64, values of `Error`.
    corrected: (K,) int64, the class in which the prediction would be correct after fixing its class or its location;
        otherwise NOTHING.
    truths: (M,) int64, the classes of the objects.
    missed: (M,) bool, no prediction finds the object, not even after a fix.
    """

    file: str
    scores: Floats
    labels: Ints
    areas: Matches
    rims: Matches | None
    met: Ints
    errors: Ints
    corrected: Ints
    truths: Ints
    missed: Bools


def judge(
    file: str, truths: Sequence[Record], found: Sequence[Record], category_ids: Sequence[int], kind: Kind, limit: int
) -> Judged:
    """Compare the COCO records of one picture.

    truths: annotations. found: results; at most `limit` of each class count. category_ids: the id of each label.
    """
    place = {category_id: label for label, category_id in enumerate(category_ids)}
    kept = _best_of_each_class(found, limit)
    scores = np.array([record["score"] for record in kept], dtype=np.float64)
    labels = np.array([place[record["category_id"]] for record in kept], dtype=np.int64)
    classes = np.array([place[record["category_id"]] for record in truths], dtype=np.int64)
    crowd = np.array([bool(record["iscrowd"]) for record in truths], dtype=np.bool_)
    overlaps = _overlaps(kept, truths, crowd, kind)
    same = labels[:, None] == classes
    own = np.where(same, overlaps, NOTHING)
    chosen = match(own, crowd, IOUS)
    met = match(np.where(same | ~crowd, overlaps, NOTHING), crowd, IOUS[:1])[0]
    errors, repairs = _find_errors(overlaps[:, ~crowd], same[:, ~crowd], _without(chosen[RIGHT], crowd))
    used = np.zeros(len(truths), dtype=np.bool_)
    used[chosen[RIGHT][chosen[RIGHT] >= 0]] = True
    objects = classes[~crowd]
    return Judged(
        file=file,
        scores=scores,
        labels=labels,
        areas=_matches(chosen, crowd),
        rims=_judge_rims(kept, truths, own, crowd) if kind == "segm" else None,
        met=_classes_met(met, classes, crowd),
        errors=errors,
        corrected=np.where(repairs >= 0, objects[repairs], NOTHING) if len(objects) else repairs,
        truths=objects,
        missed=~used[~crowd] & ~np.isin(np.arange(len(objects)), repairs),
    )


def match(overlaps: Floats, crowd: Bools, thresholds: Floats) -> Ints:
    """Match predictions with regions by COCO's rule: (T, K) int64, the region of each prediction, or NOTHING.

    overlaps: (K, G) IoU, predictions best first; a negative value forbids a pair. crowd: (G,) bool. thresholds: (T,).

    Each prediction in turn takes the free object with the highest IoU, and the last one of equals. An object is taken
    once. A prediction without an object may take a crowd region, which any number of predictions can share.
    """
    chosen = np.full((len(thresholds), len(overlaps)), NOTHING, dtype=np.int64)
    free = np.ones((len(thresholds), overlaps.shape[1]), dtype=np.bool_)
    tested = np.minimum(thresholds, 1 - 1e-10)
    enough = overlaps >= tested.min()
    each = np.arange(len(thresholds))
    for row in np.flatnonzero(enough.any(axis=1)):
        near = np.flatnonzero(enough[row])[::-1]  # reversed, because argmax returns the first of equals
        line = overlaps[row, near]
        left = np.where(free[:, near] & ~crowd[near], line, NOTHING)
        best = left.argmax(axis=1)
        taken = left[each, best] >= tested
        free[each[taken], near[best[taken]]] = False
        chosen[taken, row] = near[best[taken]]
        on_crowd = np.where(crowd[near], line, NOTHING)
        lies = ~taken & (on_crowd.max() >= tested)
        chosen[lies, row] = near[on_crowd.argmax()]
    return chosen


def _best_of_each_class(found: Sequence[Record], limit: int) -> list[Record]:
    """The records sorted by score, at most `limit` of each class."""
    counts: dict[int, int] = {}
    kept = []
    for record in sorted(found, key=lambda record: -record["score"]):
        counts[record["category_id"]] = counts.get(record["category_id"], 0) + 1
        if counts[record["category_id"]] <= limit:
            kept.append(record)
    return kept


def _overlaps(found: Sequence[Record], truths: Sequence[Record], crowd: Bools, kind: Kind) -> Floats:
    """IoU (K, G). For a crowd region it is the share of the prediction that lies on the region."""
    if not found or not truths:
        return np.zeros((len(found), len(truths)))
    key = "bbox" if kind == "bbox" else "segmentation"
    measure = primitives.bbox_iou if kind == "bbox" else primitives.mask_iou
    overlaps: Floats = measure([record[key] for record in found], [record[key] for record in truths], crowd)
    return overlaps


def _judge_rims(found: Sequence[Record], truths: Sequence[Record], own: Floats, crowd: Bools) -> Matches:
    """The matches for boundary AP: by the smaller of mask IoU and rim IoU, and by mask IoU for crowd regions."""
    pairs = (own >= IOUS[0]) & ~crowd
    smaller = own.copy()
    rows, columns = pairs.any(axis=1).nonzero()[0].tolist(), pairs.any(axis=0).nonzero()[0].tolist()
    if rows:
        depth = rim_depth(*truths[0]["segmentation"]["size"])
        ours = [dict(rim(found[row]["segmentation"], depth)) for row in rows]
        theirs = [dict(rim(truths[column]["segmentation"], depth)) for column in columns]
        place = np.ix_(rows, columns)
        smaller[place] = np.minimum(own[place], primitives.mask_iou(ours, theirs, [False] * len(theirs)))
    return _matches(match(smaller, crowd, IOUS), crowd)


def _matches(chosen: Ints, crowd: Bools) -> Matches:
    on_crowd = np.append(crowd, False)[chosen]  # NOTHING is -1, the index of the last entry
    return Matches((chosen >= 0) & ~on_crowd, on_crowd)


def _without(chosen: Ints, crowd: Bools) -> Ints:
    """Convert indices of regions to indices of objects. Crowd regions become CROWD."""
    places = np.append(np.where(crowd, CROWD, (~crowd).cumsum() - 1), NOTHING)
    taken: Ints = places[chosen]
    return taken


def _classes_met(met: Ints, classes: Ints, crowd: Bools) -> Ints:
    result: Ints = np.append(np.where(crowd, CROWD, classes), NOTHING)[met]
    return result


def _find_errors(overlaps: Floats, same: Bools, chosen: Ints) -> tuple[Ints, Ints]:
    """The `Error` (K,) of each prediction, and the object (K,) that it finds after fixing its class or its location.

    overlaps: (K, M) IoU. same: (K, M) bool, prediction and object have the same class. chosen: (K,) the object that the
    prediction finds, NOTHING or CROWD. If several predictions would find an object, only the best one does.
    """
    errors = np.full(len(chosen), Error.none, dtype=np.int64)
    repairs = np.full(len(chosen), NOTHING, dtype=np.int64)
    wrong = chosen == NOTHING
    if not overlaps.shape[1]:
        errors[wrong] = Error.background
        return errors, repairs
    used = np.isin(np.arange(overlaps.shape[1]), chosen)
    own, other = np.where(same, overlaps, 0), np.where(same, 0, overlaps)
    near, beside = own.max(axis=1), other.max(axis=1)
    doubled = (own * used).max(axis=1) >= IOUS[RIGHT]
    cases = [
        (near >= BACKGROUND) & (near <= IOUS[RIGHT]),
        beside >= IOUS[RIGHT],
        doubled,
        overlaps.max(axis=1) <= BACKGROUND,
    ]
    kinds = [Error.localisation, Error.classification, Error.duplicate, Error.background]
    errors[wrong] = np.select(cases, kinds, Error.both)[wrong]
    wanted = np.where(errors == Error.localisation, own.argmax(axis=1), other.argmax(axis=1))
    mends = ((errors == Error.localisation) | (errors == Error.classification)) & ~used[wanted]
    rows = np.flatnonzero(mends)
    _, first = np.unique(wanted[rows], return_index=True)  # predictions are best first
    repairs[rows[first]] = wanted[rows[first]]
    return errors, repairs

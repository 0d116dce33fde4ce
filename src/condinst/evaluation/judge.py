"""Which predictions of one picture are right, and what is wrong with the others. Only numbers are kept, no mask.

K predictions, G annotated regions with crowds, M objects without them, T the ten IoUs of COCO. Classes are labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Literal, NamedTuple

import numpy as np
from hotcoco import primitives
from numpy.typing import NDArray

from condinst.ops.boundary import rim, rim_depth

Kind = Literal["bbox", "segm"]
Record = dict[str, Any]  # a COCO record as it stands in the JSON file
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

IOUS: Floats = np.linspace(0.5, 0.95, 10)
RIGHT, STRICT = 0, 5  # places of IoU 0.5, from which on a prediction is called right, and of 0.75
BACKGROUND = 0.1  # IoU up to which a prediction has met nothing, as TIDE has it
NOTHING, CROWD = -1, -2


class Error(IntEnum):
    """What a prediction is by TIDE (Bolya et al. 2020), or that it is none of these."""

    none = 0  # right, or on a crowd
    classification = 1  # a true object at IoU ≥ 0.5, but of another class
    localisation = 2  # one of its class at 0.1 ≤ IoU ≤ 0.5
    both = 3  # neither fits, and yet it is not background
    duplicate = 4  # an object that a better-scored prediction has found
    background = 5  # IoU with everything ≤ 0.1


class Matches(NamedTuple):
    """right: (T, K) bool, found an object of its class. ignored: (T, K) bool, lies on a crowd and does not count."""

    right: Bools
    ignored: Bools


class Judged(NamedTuple):
    """One picture. Predictions are best first, at most the limit of each class.

    scores: (K,). labels: (K,). areas: what the IoU was taken of, and rims: the same of the masks' rims, if measured.
    met: (K,) class of the object met at IoU 0.5 whatever the class, one to one; NOTHING, or CROWD of its own class.
    errors: (K,) `Error`.
    corrected: (K,) class in which the prediction would be right, were its class or place repaired; else NOTHING.
    truths: (M,) classes. missed: (M,) bool, no prediction finds the object or would if repaired.
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
    """Compare COCO records of one picture: annotations and results, of which at most `limit` of each class count."""
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
    """COCO's rule: the region each prediction takes at each threshold, (T, K) int64, NOTHING where it takes none.

    overlaps: (K, G) IoU, predictions best first, below 0 where a pair may not be. An object is taken once, the one of
    greatest IoU first, the later of equals; what is left over may lie on a crowd, which is never used up.
    """
    chosen = np.full((len(thresholds), len(overlaps)), NOTHING, dtype=np.int64)
    free = np.ones((len(thresholds), overlaps.shape[1]), dtype=np.bool_)
    tested = np.minimum(thresholds, 1 - 1e-10)
    enough = overlaps >= tested.min()
    each = np.arange(len(thresholds))
    for row in np.flatnonzero(enough.any(axis=1)):
        near = np.flatnonzero(enough[row])[::-1]  # argmax takes the first of equals
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
    """Best first, at most `limit` of each class."""
    counts: dict[int, int] = {}
    kept = []
    for record in sorted(found, key=lambda record: -record["score"]):
        counts[record["category_id"]] = counts.get(record["category_id"], 0) + 1
        if counts[record["category_id"]] <= limit:
            kept.append(record)
    return kept


def _overlaps(found: Sequence[Record], truths: Sequence[Record], crowd: Bools, kind: Kind) -> Floats:
    """(K, G) IoU; with a crowd, the share of the prediction that lies on it."""
    if not found or not truths:
        return np.zeros((len(found), len(truths)))
    key = "bbox" if kind == "bbox" else "segmentation"
    measure = primitives.bbox_iou if kind == "bbox" else primitives.mask_iou
    overlaps: Floats = measure([record[key] for record in found], [record[key] for record in truths], crowd)
    return overlaps


def _judge_rims(found: Sequence[Record], truths: Sequence[Record], own: Floats, crowd: Bools) -> Matches:
    """Boundary AP's matches: of two masks, the smaller of their IoU and that of their rims; with a crowd, the first."""
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
    on_crowd = np.append(crowd, False)[chosen]  # NOTHING is the last place
    return Matches((chosen >= 0) & ~on_crowd, on_crowd)


def _without(chosen: Ints, crowd: Bools) -> Ints:
    """Places among all regions → among the objects alone; CROWD for crowds."""
    places = np.append(np.where(crowd, CROWD, (~crowd).cumsum() - 1), NOTHING)
    taken: Ints = places[chosen]
    return taken


def _classes_met(met: Ints, classes: Ints, crowd: Bools) -> Ints:
    result: Ints = np.append(np.where(crowd, CROWD, classes), NOTHING)[met]
    return result


def _find_errors(overlaps: Floats, same: Bools, chosen: Ints) -> tuple[Ints, Ints]:
    """`Error` of each prediction (K,), and the object (K,) it would find if an error of class or place were repaired.

    overlaps, same: (K, M), whether of one class. chosen: (K,) the object found, NOTHING or CROWD. Only the best-scored
    of all that would find an object does.
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

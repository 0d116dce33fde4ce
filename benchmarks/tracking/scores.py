"""HOTA by trackeval; IDF1, MOTA and changes of number by motmetrics."""

from __future__ import annotations

from typing import NamedTuple

import motmetrics
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco
from trackeval.metrics.hota import HOTA

from condinst.ops.bitmaps.rle import Rle

Ids = NDArray[np.int64]
Tracked = dict[int, Rle]  # the masks of a frame by the number of their track
MATCH = 0.5  # least IoU of a mask that shows an object, for IDF1 and MOTA


class Scores(NamedTuple):
    """hota, deta, assa: by the IoU of masks. box_hota: by the IoU of boxes. switches: changes of number."""

    hota: float
    deta: float
    assa: float
    box_hota: float
    idf1: float
    mota: float
    switches: float


def score(truth: list[Tracked], tracked: list[Tracked]) -> Scores:
    """The scores of a film."""
    pairs = list(zip(truth, tracked, strict=True))
    masks = [ious(list(one.values()), list(other.values())) for one, other in pairs]
    boxes = [ious(boxes_of(one), boxes_of(other)) for one, other in pairs]
    by_mask, by_box = hota(truth, tracked, masks), hota(truth, tracked, boxes)
    counted = motmetrics.MOTAccumulator(auto_id=True)
    for (one, other), found in zip(pairs, masks, strict=True):
        counted.update(list(one), list(other), np.where(found >= MATCH, 1 - found, np.nan))
    names = ["idf1", "mota", "num_switches"]
    idf1, mota, switches = motmetrics.metrics.create().compute(counted, metrics=names).iloc[0].tolist()
    return Scores(*by_mask, by_box[0], idf1, mota, switches)


def hota(truth: list[Tracked], tracked: list[Tracked], similar: list[NDArray[np.float64]]) -> tuple[float, ...]:
    """HOTA, DetA and AssA, each the mean over the thresholds of similarity from 0.05 to 0.95."""
    real, found = numbered(truth), numbered(tracked)
    given = {"gt_ids": real, "tracker_ids": found, "similarity_scores": similar}
    for name, ids in (("gt", real), ("tracker", found)):
        joined = np.concatenate(ids)
        given |= {f"num_{name}_dets": len(joined), f"num_{name}_ids": len(np.unique(joined))}
    scores = HOTA().eval_sequence(given)
    return tuple(float(np.mean(scores[name])) for name in ("HOTA", "DetA", "AssA"))


def numbered(frames: list[Tracked]) -> list[Ids]:
    """The ids of each frame, counted from 0 without a gap."""
    places = {one: place for place, one in enumerate(sorted({one for frame in frames for one in frame}))}
    return [np.array([places[one] for one in frame], np.int64) for frame in frames]


def ious(real: list, found: list) -> NDArray[np.float64]:
    """(T, D) IoU of run lengths, or of boxes as x, y, width, height."""
    if not len(real) or not len(found):
        return np.zeros((len(real), len(found)))
    return np.asarray(coco.iou(real, found, [0] * len(found)))


def boxes_of(frame: Tracked) -> list:
    """The box of each mask."""
    return list(coco.toBbox(list(frame.values()))) if frame else []

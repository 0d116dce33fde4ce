"""The twelve COCO metrics of boxes or masks, by hotcoco."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from hotcoco import Params, StreamingEval

from condinst.data.sample import AnnotatedData, Sample
from condinst.evaluation.judge import Kind, Record

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class CocoNumbers:
    """The twelve COCO metrics, each in [0, 1], or −1 if no annotated object has that size.

    AP is the mean over IoU 0.50, 0.55, …, 0.95. s, m, l: objects with an area below 32², below 96² and from 96² square
    pixels on. AR1, AR10: average recall with 1 and 10 detections. AR: average recall at the detection limit.
    """

    AP: float
    AP50: float
    AP75: float
    APs: float
    APm: float
    APl: float
    AR1: float
    AR10: float
    AR: float
    ARs: float
    ARm: float
    ARl: float

    def __repr__(self) -> str:
        return "not measured" if self.AP < 0 else f"AP {self.AP:.3f} AP50 {self.AP50:.3f} AP75 {self.AP75:.3f}"


UNKNOWN = CocoNumbers(*[-1.0] * 12)


def start(kind: Kind, data: AnnotatedData, limit: int) -> StreamingEval:
    """An evaluation that receives one picture after another. limit: most detections of each class in a picture."""
    categories = [{"id": number, "name": name} for number, name in zip(data.category_ids, data.classes, strict=True)]
    parameters = Params(kind)
    parameters.max_dets = sorted({min(1, limit), min(10, limit), limit})
    federated = any(sample.federated is not None for sample in data.samples)
    return StreamingEval(categories, kind, lvis_style=federated, params=parameters)


def image_record(sample: Sample, data: AnnotatedData) -> Record:
    """The record of a picture. If annotators looked for all classes, the rule of LVIS needs all of them as negative."""
    absent, partial = sample.federated or (range(len(data.classes)), ())
    return {
        "id": sample.image_id,
        "width": sample.width,
        "height": sample.height,
        "neg_category_ids": [data.category_ids[label] for label in sorted(absent)],
        "not_exhaustive_category_ids": [data.category_ids[label] for label in sorted(partial)],
    }


def only(kind: Kind, record: Record) -> Record:
    """The entries of a record that hotcoco needs. With a box, it would use the area of the box for a mask's size."""
    wanted = "bbox" if kind == "bbox" else "segmentation"
    return {key: record[key] for key in ("image_id", "category_id", "score", wanted)}


def finish(scorer: StreamingEval, data: AnnotatedData, limit: int) -> tuple[CocoNumbers, dict[str, CocoNumbers]]:
    """The metrics of all classes and of each class. hotcoco's own summary supports only the standard limit."""
    evaluation = scorer.finalize()
    evaluation.accumulate()
    assert evaluation.eval is not None
    precision = np.asarray(evaluation.eval["precision"])  # (10 IoUs, 101 recalls, classes, 4 sizes, limits)
    recall = np.asarray(evaluation.eval["recall"])  # (10 IoUs, classes, 4 sizes, limits)
    limits = [evaluation.params.max_dets.index(min(few, limit)) for few in (1, 10, limit)]
    each = {
        name: _numbers(precision[:, :, [index]], recall[:, [index]], limits) for index, name in enumerate(data.classes)
    }
    return _numbers(precision, recall, limits), each


def _numbers(precision: Numbers, recall: Numbers, limits: list[int]) -> CocoNumbers:
    """The twelve metrics. limits: the indices of 1, 10 and the detection limit on the last axis."""
    few, some, most = limits
    return CocoNumbers(
        AP=_mean(precision[..., 0, most]),
        AP50=_mean(precision[0, ..., 0, most]),
        AP75=_mean(precision[5, ..., 0, most]),
        APs=_mean(precision[..., 1, most]),
        APm=_mean(precision[..., 2, most]),
        APl=_mean(precision[..., 3, most]),
        AR1=_mean(recall[..., 0, few]),
        AR10=_mean(recall[..., 0, some]),
        AR=_mean(recall[..., 0, most]),
        ARs=_mean(recall[..., 1, most]),
        ARm=_mean(recall[..., 2, most]),
        ARl=_mean(recall[..., 3, most]),
    )


def _mean(values: Numbers) -> float:
    """The mean over the entries with annotated objects, which hotcoco marks by −1 if missing; −1 without any."""
    present = values[values > -1]
    return float(present.mean()) if present.size else -1.0

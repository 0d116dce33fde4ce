"""COCO metrics for boxes and masks, by hotcoco. Masks of a picture are dropped after its evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from hotcoco import Params, StreamingEval

from condinst.config import Config
from condinst.data.class_names import same_class_name
from condinst.data.sample import AnnotatedData, Instance, Sample
from condinst.errors import DataError, UsageError, some
from condinst.evaluation.judge import Kind, Record
from condinst.inference.result import Result
from condinst.ops.bitmaps.rle import areas

Progress = Callable[[int, int], None]
# A function that receives each picture with its annotations and its predictions as COCO records.
See = Callable[[Sample, list[Record], list[Record]], None]
KINDS: tuple[Kind, ...] = ("bbox", "segm")
Numbers = npt.NDArray[np.float64]


class Predicts(Protocol):
    """The methods that the evaluation needs. `condinst.Predictor` has them."""

    config: Config

    @property
    def names(self) -> dict[int, str]: ...

    def __call__(self, source: Path) -> Result: ...


@dataclass(frozen=True)
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


UNKNOWN = CocoNumbers(*[-1.0] * 12)


@dataclass(frozen=True)
class Scores:
    """The result of one evaluation.

    bbox, segm: the metrics of boxes and of masks. bbox_per_class, segm_per_class: the metrics of each class, in the
    order of the data set's category ids. notes: remarks for the reader.
    """

    bbox: CocoNumbers
    segm: CocoNumbers
    bbox_per_class: dict[str, CocoNumbers]
    segm_per_class: dict[str, CocoNumbers]
    max_detections: int  # of each class in an image
    images: int
    truths: int  # annotated objects without crowd regions
    detections: int
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The scores as dicts and lists, ready for JSON."""
        return asdict(self)


def evaluate(
    data: AnnotatedData,
    predictor: Predicts,
    max_detections: int = 100,
    progress: Progress | None = None,
    see: See | None = None,
) -> Scores:
    """Predict every image of a data set and compute the COCO metrics.

    max_detections: most predictions of each class that count in an image. The COCO standard is 100. Dense images need
        more; state the limit beside the metrics. The predictor's own limit is for all classes of an image together.
    progress: called with the number of finished images and of all images.
    see: called with each picture and its records, in which the category id is label + 1.

    Classes are matched by name; see `match_classes`. If an annotation has a box and no mask, masks are not measured:
    their metrics are −1, and a note says so. Federated annotations (`Sample.federated`) are measured by the rule of
    LVIS. Raises UsageError if the predictor's own limit is lower than `max_detections`. Raises DataError for unreadable
    images and for classes that do not match.
    """
    if not data.samples:
        raise DataError(f"{data.source}: no pictures to measure on; check the annotation file")
    kept = predictor.config.detect.max_detections
    if kept < max_detections:
        raise UsageError(
            f"max_detections is {max_detections}, but the predictor keeps {kept}; raise detect.max_detections"
        )
    data = renumber(data)
    matched, notes = match_classes(predictor.names, data)
    boxed = count_boxed(data)
    if boxed:
        notes += (f"annotations with a box and no mask: {boxed}; only boxes are measured",)
    if not any(not instance.crowd for sample in data.samples for instance in sample.instances):
        notes += ("no object is annotated, so there is no AP; predictions are counted alone",)
    kinds = KINDS[:1] if boxed else KINDS
    scorers: dict[Kind, StreamingEval] = {kind: _start(kind, data, max_detections) for kind in kinds}
    detections = truth_count = unmeasured = 0
    for done, sample in enumerate(data.samples, start=1):
        truths = [truth_record(it, sample, data, truth_count + n) for n, it in enumerate(sample.instances, start=1)]
        truth_count += len(truths)
        predicted = predict(predictor, sample, matched, data).to_coco(
            sample.image_id, dict(enumerate(data.category_ids))
        )
        found = looked_for(predicted, sample)
        for kind, scorer in scorers.items():
            scorer.update([_image(sample, data)], truths, [_only(kind, one) for one in found])
        if see is not None:
            see(sample, truths, found)
        detections += len(found)
        unmeasured += len(predicted) - len(found)
        if progress is not None:
            progress(done, len(data.samples))
    notes += _federated_notes(data, unmeasured)
    return _sum_up(scorers, data, max_detections, detections, data.notes + notes)


def renumber(data: AnnotatedData) -> AnnotatedData:
    """The same data with ids counted from 1. hotcoco refuses negative ids and ids above 64 bits."""
    samples = (replace(sample, image_id=number) for number, sample in enumerate(data.samples, start=1))
    return replace(data, samples=tuple(samples), category_ids=tuple(range(1, len(data.classes) + 1)))


def looked_for(found: Sequence[Record], sample: Sample) -> list[Record]:
    """The records whose classes the annotators looked for in the picture. Category ids are those of `renumber`."""
    if sample.federated is None:
        return list(found)
    known = {instance.label for instance in sample.instances} | sample.federated.absent
    return [record for record in found if record["category_id"] - 1 in known]


def _federated_notes(data: AnnotatedData, unmeasured: int) -> tuple[str, ...]:
    pictures = sum(sample.federated is not None for sample in data.samples)
    if not pictures:
        return ()
    return (
        f"{pictures} pictures are annotated as in LVIS (neg_category_ids, not_exhaustive_category_ids) and measured by "
        f"its rule: {unmeasured} predictions of classes that nobody looked for in their picture are not counted, nor "
        "are unmatched ones of classes that are annotated in part",
    )


def count_boxed(data: AnnotatedData) -> int:
    """The number of annotations without a mask. If there are any, masks cannot be measured."""
    return sum(instance.shape is None for sample in data.samples for instance in sample.instances)


def match_classes(names: dict[int, str], data: AnnotatedData) -> tuple[dict[int, int], tuple[str, ...]]:
    """The data set's category id for each label of the model, by class name, and notes for the reader.

    If model and data set have one class each, the classes match under any names. Classes that only the model has are
    left out with a note, and so are classes of the data set without objects. Raises DataError for any other class of
    the data set that the model does not have.
    """
    if len(names) == len(data.classes) == 1:
        mine, theirs = next(iter(names.values())), data.classes[0]
        note = f"the model's one class '{mine}' is measured as the data set's '{theirs}'"
        return {next(iter(names)): data.category_ids[0]}, () if mine == theirs else (note,)
    ids = dict(zip(data.classes, data.category_ids, strict=True))
    used = {instance.label for sample in data.samples for instance in sample.instances}
    absent = [name for name in data.classes if name not in names.values()]
    unknown = [name for label, name in enumerate(data.classes) if name in absent and label in used]
    if unknown:
        raise DataError(
            f"{data.source}: the model does not know {_quoted(unknown)}; its classes are {_quoted(names.values())}; "
            f"{_other_spellings(unknown, names.values())}rename the categories or take another model"
        )
    extra = [name for name in names.values() if name not in ids]
    notes: tuple[str, ...] = (
        (f"the data set lacks these classes of the model, they are not measured: {_quoted(extra)}",) if extra else ()
    )
    if absent:
        notes += (f"these classes have no object and the model does not know them: {_quoted(absent)}",)
    return {label: ids[name] for label, name in names.items() if name in ids}, notes


def predict(predictor: Predicts, sample: Sample, matched: dict[int, int], data: AnnotatedData) -> Result:
    """Predict a picture and return the result with the labels of `data`, without classes that the data set lacks."""
    result = predictor(sample.path)
    places = {category_id: label for label, category_id in enumerate(data.category_ids)}
    labels = [places[matched[label]] if label in matched else -1 for label in result.boxes.cls.tolist()]
    known = [index for index, label in enumerate(labels) if label >= 0]
    kept = result[known]
    boxes = replace(kept.boxes, cls=kept.boxes.cls.new_tensor([labels[index] for index in known]))
    return replace(kept, boxes=boxes, names=dict(enumerate(data.classes)))


def truth_record(instance: Instance, sample: Sample, data: AnnotatedData, number: int) -> Record:
    """An annotation as a COCO record with id `number`.

    Without an annotated area, it gets the area of its mask, or of its box if it has no mask. COCO's size classes depend
    on this area.
    """
    x0, y0, x1, y1 = instance.box
    record: Record = {
        "id": number,
        "image_id": sample.image_id,
        "category_id": data.category_ids[instance.label],
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "iscrowd": int(instance.crowd),
    }
    rle = None if instance.shape is None else instance.shape.whole(sample.height, sample.width)
    if rle is not None:
        record["segmentation"] = rle
    box_area = (x1 - x0) * (y1 - y0)
    area = instance.area
    record["area"] = (box_area if rle is None else float(areas([rle])[0])) if area is None else area
    return record


def _quoted(names: Iterable[str]) -> str:
    return some([f"'{name}'" for name in names])


def _other_spellings(unknown: Iterable[str], known: Iterable[str]) -> str:
    """A hint if a class of the model differs from an unknown class only in case, spaces or Unicode form."""
    known = list(known)
    pairs = [(one, other) for one in unknown for other in known if same_class_name(one, other)]
    return "".join(f"'{one}' is spelled '{other}' there; " for one, other in pairs[:1])


def _start(kind: Kind, data: AnnotatedData, limit: int) -> StreamingEval:
    categories = [{"id": number, "name": name} for number, name in zip(data.category_ids, data.classes, strict=True)]
    parameters = Params(kind)
    parameters.max_dets = sorted({min(1, limit), min(10, limit), limit})
    federated = any(sample.federated is not None for sample in data.samples)
    return StreamingEval(categories, kind, lvis_style=federated, params=parameters)


def _image(sample: Sample, data: AnnotatedData) -> Record:
    """The record of a picture. If annotators looked for all classes, the rule of LVIS needs all of them as negative."""
    absent, partial = sample.federated or (range(len(data.classes)), ())
    return {
        "id": sample.image_id,
        "width": sample.width,
        "height": sample.height,
        "neg_category_ids": [data.category_ids[label] for label in sorted(absent)],
        "not_exhaustive_category_ids": [data.category_ids[label] for label in sorted(partial)],
    }


def _only(kind: Kind, record: Record) -> Record:
    """The entries of a record that hotcoco needs. With a box, it would use the area of the box for a mask's size."""
    wanted = "bbox" if kind == "bbox" else "segmentation"
    return {key: record[key] for key in ("image_id", "category_id", "score", wanted)}


def _sum_up(
    scorers: dict[Kind, StreamingEval], data: AnnotatedData, limit: int, detections: int, notes: tuple[str, ...]
) -> Scores:
    measured = {kind: _finish(scorer, data, limit) for kind, scorer in scorers.items()}
    bbox, bbox_per_class = measured["bbox"]
    segm, segm_per_class = measured.get("segm", (UNKNOWN, dict.fromkeys(data.classes, UNKNOWN)))
    return Scores(
        bbox=bbox,
        segm=segm,
        bbox_per_class=bbox_per_class,
        segm_per_class=segm_per_class,
        max_detections=limit,
        images=len(data.samples),
        truths=sum(not instance.crowd for sample in data.samples for instance in sample.instances),
        detections=detections,
        notes=notes,
    )


def _finish(scorer: StreamingEval, data: AnnotatedData, limit: int) -> tuple[CocoNumbers, dict[str, CocoNumbers]]:
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

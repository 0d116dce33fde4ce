"""COCO's numbers for boxes and masks, by hotcoco. Each image is matched when it is predicted and then let go."""

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
from condinst.ops.rle import areas

Progress = Callable[[int, int], None]
# What may look on: a picture with its truth and its predictions as COCO records, which are let go afterwards.
See = Callable[[Sample, list[Record], list[Record]], None]
KINDS: tuple[Kind, ...] = ("bbox", "segm")
Numbers = npt.NDArray[np.float64]


class Predicts(Protocol):
    """What evaluation needs of a predictor; `condinst.predictor.Predictor` is one."""

    config: Config

    @property
    def names(self) -> dict[int, str]: ...

    def __call__(self, source: Path) -> Result: ...


@dataclass(frozen=True)
class CocoNumbers:
    """The twelve COCO numbers; −1 where there is no truth of that size. AR is at the run's detection limit.

    Sizes by mask area in pixels: small below 32², medium below 96², large above. AR1, AR10: one and ten detections.
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
    """What one evaluation found. `per_class` runs over the data set's classes, in the order of their category ids."""

    bbox: CocoNumbers
    segm: CocoNumbers
    bbox_per_class: dict[str, CocoNumbers]
    segm_per_class: dict[str, CocoNumbers]
    max_detections: int  # per image
    images: int
    truths: int  # crowd regions not counted
    detections: int
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain containers for JSON: `bbox` and `segm` with the twelve numbers, then the rest."""
        return asdict(self)


def evaluate(
    data: AnnotatedData,
    predictor: Predicts,
    max_detections: int = 100,
    progress: Progress | None = None,
    see: See | None = None,
) -> Scores:
    """Predict every image of a data set and score the result.

    Of each class at most `max_detections` per image count, as in COCO, where 100 is the standard; dense images need
    more, and the limit belongs beside the number. The predictor's own limit is per image. `progress` is told (images
    done, images in all), `see` each picture's records, in which categories are numbered label + 1. Classes are matched
    by name, see `match_classes`. Where an annotation has a box alone, masks are not measured: their numbers are −1, and
    a note says so. Federated annotations (`Sample.federated`) are measured by LVIS's rule. Raises UsageError if the
    predictor's own limit is lower, DataError for bad images or classes that do not match.
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
    """The same data with category ids and image ids from 1: hotcoco refuses negative ids and those above 64 bits."""
    samples = (replace(sample, image_id=number) for number, sample in enumerate(data.samples, start=1))
    return replace(data, samples=tuple(samples), category_ids=tuple(range(1, len(data.classes) + 1)))


def looked_for(found: Sequence[Record], sample: Sample) -> list[Record]:
    """The records of classes that annotators looked for in the picture; their category ids are those of `renumber`."""
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
    """Annotations without a mask: where there are any, masks cannot be measured."""
    return sum(instance.shape is None for sample in data.samples for instance in sample.instances)


def match_classes(names: dict[int, str], data: AnnotatedData) -> tuple[dict[int, int], tuple[str, ...]]:
    """The data set's category id of each of the model's labels, by class name, and notes for the reader.

    One class on both sides matches whatever its name. Classes that only the model knows are left out and noted, and so
    are classes of the data that have no object. Raises DataError naming the other classes of the data that the model
    does not know.
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
    """What is found in a picture, in the labels of `data`; classes that the data set lacks are left out."""
    result = predictor(sample.path)
    places = {category_id: label for label, category_id in enumerate(data.category_ids)}
    labels = [places[matched[label]] if label in matched else -1 for label in result.boxes.cls.tolist()]
    known = [index for index, label in enumerate(labels) if label >= 0]
    kept = result[known]
    boxes = replace(kept.boxes, cls=kept.boxes.cls.new_tensor([labels[index] for index in known]))
    return replace(kept, boxes=boxes, names=dict(enumerate(data.classes)))


def truth_record(instance: Instance, sample: Sample, data: AnnotatedData, number: int) -> Record:
    """Annotation `number` as COCO files have it. Without an area it gets its mask's, or its box's if it has none.

    COCO's size classes go by that area.
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
    """A hint at names of the model that differ in nothing one sees."""
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
    """The picture's record. Where annotators looked for all classes, LVIS's rule needs all of them as negative."""
    absent, partial = sample.federated or (range(len(data.classes)), ())
    return {
        "id": sample.image_id,
        "width": sample.width,
        "height": sample.height,
        "neg_category_ids": [data.category_ids[label] for label in sorted(absent)],
        "not_exhaustive_category_ids": [data.category_ids[label] for label in sorted(partial)],
    }


def _only(kind: Kind, record: Record) -> Record:
    """What hotcoco may see for `kind`: with a box in a mask's record it would take the box's area for its size."""
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
    """The numbers over all classes and of each. hotcoco's own summary knows only the standard limit."""
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
    """The twelve means. `limits` are the places of 1, 10 and the run's limit on the last axis."""
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
    """Over the entries with truth (hotcoco writes −1 where there is none); −1 if there are none at all."""
    present = values[values > -1]
    return float(present.mean()) if present.size else -1.0

"""COCO metrics for boxes and masks, by hotcoco. Masks of a picture are dropped after its evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from hotcoco import StreamingEval

from condinst.config import Config
from condinst.data.sample import AnnotatedData, Instance, Sample
from condinst.errors import DataError, UsageError
from condinst.evaluation.coco import UNKNOWN, CocoNumbers, finish, image_record, only, start
from condinst.evaluation.judge import Kind, Record
from condinst.evaluation.match import match_classes
from condinst.inference.result import Result
from condinst.ops.bitmaps.rle import areas

Progress = Callable[[int, int], None]
# A function that receives each picture with its annotations and its predictions as COCO records.
See = Callable[[Sample, list[Record], list[Record]], None]
KINDS: tuple[Kind, ...] = ("bbox", "segm")


class Predicts(Protocol):
    """The methods that the evaluation needs. `condinst.Predictor` has them."""

    config: Config

    @property
    def names(self) -> dict[int, str]: ...

    def __call__(self, source: Path) -> Result: ...


@dataclass(frozen=True, repr=False)
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

    def __repr__(self) -> str:
        counts = f"{self.images} images, {self.truths} objects, at most {self.max_detections} detections"
        return f"Scores(mask {self.segm!r}, box {self.bbox!r}, {counts})"

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
        notes += ("no object is annotated, so AP is undefined; only predictions are counted",)
    kinds = KINDS[:1] if boxed else KINDS
    scorers: dict[Kind, StreamingEval] = {kind: start(kind, data, max_detections) for kind in kinds}
    detections = truth_count = unmeasured = 0
    for done, sample in enumerate(data.samples, start=1):
        truths = [truth_record(it, sample, data, truth_count + n) for n, it in enumerate(sample.instances, start=1)]
        truth_count += len(truths)
        predicted = predict(predictor, sample, matched, data).to_coco(
            sample.image_id, dict(enumerate(data.category_ids))
        )
        found = looked_for(predicted, sample)
        for kind, scorer in scorers.items():
            scorer.update([image_record(sample, data)], truths, [only(kind, one) for one in found])
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
        f"{pictures} pictures are annotated as in LVIS (neg_category_ids, not_exhaustive_category_ids); by its rule, "
        f"{unmeasured} predictions of classes without annotation in their picture are not counted, and unmatched "
        "predictions of partly annotated classes are not counted, either",
    )


def count_boxed(data: AnnotatedData) -> int:
    """The number of annotations without a mask. If there are any, masks cannot be measured."""
    return sum(instance.shape is None for sample in data.samples for instance in sample.instances)


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


def _sum_up(
    scorers: dict[Kind, StreamingEval], data: AnnotatedData, limit: int, detections: int, notes: tuple[str, ...]
) -> Scores:
    measured = {kind: finish(scorer, data, limit) for kind, scorer in scorers.items()}
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

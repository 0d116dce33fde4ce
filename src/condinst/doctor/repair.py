"""Repairs pictures and objects without guessing. Every change is recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import hotcoco.mask as coco_mask
import numpy as np
import shapely
from numpy.typing import NDArray

from condinst.data.findings import Finding
from condinst.data.pictures.image import read_size
from condinst.data.sample import AnnotatedData, Federated, Instance, Polygons, RunLengths, Sample
from condinst.data.shapes import STICKS_OUT, clip_box, differs
from condinst.doctor.checks.duplicates import find_duplicates
from condinst.doctor.checks.shapes import area_differs, crossing, draw, draw_one, excess
from condinst.ops.bitmaps.rle import decode_region

SAME_PIXELS = 0.99  # IoU with the old mask; below this value, the polygon is not cut but becomes a mask
UNREADABLE = frozenset({"missing-picture", "damaged-picture"})
CORRECTED = {"wrong-size": "took the picture's own size", "exif-rotated": "turned the annotations upright"}
DERIVED = {"box-mismatch": "took the mask's own box", "area-mismatch": "took the mask's own area"}
CUT = {"outside": "cut at the picture's edge", "short-polygon": "left out stray points"}
RENUMBERED = "duplicate-id"


class Change(NamedTuple):
    """One change. kind: of the finding that caused it. what: a sentence."""

    kind: str
    file: Path
    id: int | str | None
    what: str


Note = Callable[[Change], None]


def done_by_reader(read_findings: Iterable[Finding], data: AnnotatedData) -> Iterator[Change]:
    """Return the findings of reading `data` that readers already corrected or left out."""
    kept = {sample.image_id for sample in data.samples}
    for finding in read_findings:
        if finding.kind == "duplicate-class":
            yield Change(finding.kind, finding.file, finding.id, f"merged: {finding.message}")
        elif finding.kind == "exif-rotated" and finding.severity == "warning":
            continue  # it is unknown whether the objects must be turned
        elif finding.kind in CORRECTED and finding.file == data.source and finding.id in kept:
            yield Change(finding.kind, finding.file, finding.id, f"{CORRECTED[finding.kind]}: {finding.message}")
        elif finding.kind == RENUMBERED and finding.message.startswith("annotation"):
            continue  # the record is kept with another id, see below
        elif finding.kind in DERIVED:
            yield Change(finding.kind, finding.file, finding.id, f"{DERIVED[finding.kind]}: {finding.message}")
        elif finding.kind in CUT and finding.severity == "warning":
            yield Change(finding.kind, finding.file, finding.id, f"{CUT[finding.kind]}: {finding.message}")
        elif finding.severity == "error" or finding.kind == "zero-area":
            yield Change(finding.kind, finding.file, finding.id, f"left out: {finding.message}")


def repair_set(data: AnnotatedData, findings: Iterable[Finding], note: Note) -> AnnotatedData:
    """Repair a split: drop unreadable pictures, empty objects and repeated objects, and correct the rest.

    `findings` are those of the examination.
    """
    lost = {(it.file, it.id): it for it in findings if it.kind in UNREADABLE}
    kept: list[Sample] = []
    for sample in _merge_listed_twice(data.samples, note):
        finding = lost.get((sample.path, sample.image_id))
        if finding is not None:
            note(Change(finding.kind, sample.path, sample.image_id, f"left out the picture: {finding.message}"))
        else:
            kept.append(repair_sample(sample, note))
    return replace(data, samples=tuple(_renumber(kept, note)))


def repair_sample(sample: Sample, note: Note) -> Sample:
    """Repair one picture that can be read."""
    height, width = read_size(sample.path)
    if (width, height) != (sample.width, sample.height):
        what = f"took the picture's own size, {width}×{height}"
        note(Change("wrong-size", sample.path, sample.image_id, what))
        sample = replace(sample, width=width, height=height)
    repaired = [_repair_instance(instance, sample, note) for instance in sample.instances]
    sample = replace(sample, instances=tuple(it for it in repaired if it is not None))
    repeated = find_duplicates(sample, draw(sample))
    for later, earlier in repeated.items():
        first, second = sample.instances[earlier].annotation_id, sample.instances[later].annotation_id
        note(Change("duplicate-instance", sample.path, second, f"removed: the same object as annotation {first}"))
    return replace(sample, instances=tuple(it for i, it in enumerate(sample.instances) if i not in repeated))


def unite_classes(splits: Mapping[str, AnnotatedData], note: Note) -> dict[str, AnnotatedData]:
    """Give all splits the same classes in the same order, if one split has a class that the first lacks."""
    first = next(iter(splits.values()))
    alone = len(first.classes) == 1  # matches any other class that is alone, with any name
    if all(set(data.classes) <= set(first.classes) or (alone and len(data.classes) == 1) for data in splits.values()):
        return dict(splits)
    ids = dict(zip(first.classes, first.category_ids, strict=True))
    for data in splits.values():
        for name in data.classes:
            if name not in ids:
                ids[name] = max(ids.values()) + 1
                note(Change("unknown-class", data.source, ids[name], f"added class '{name}' to all splits"))
    names = sorted(ids, key=ids.__getitem__)
    return {split: _relabel(data, names, ids) for split, data in splits.items()}


def _relabel(data: AnnotatedData, names: list[str], ids: Mapping[str, int]) -> AnnotatedData:
    labels = [names.index(name) for name in data.classes]
    samples = []
    for sample in data.samples:
        instances = tuple(replace(it, label=labels[it.label]) for it in sample.instances)
        federated = sample.federated
        if federated is not None:
            absent, partial = (frozenset(labels[label] for label in part) for part in federated)
            federated = Federated(absent, partial)
        samples.append(replace(sample, instances=instances, federated=federated))
    return replace(data, samples=tuple(samples), classes=tuple(names), category_ids=tuple(ids[it] for it in names))


def _merge_listed_twice(samples: tuple[Sample, ...], note: Note) -> list[Sample]:
    """Return one sample for each file, with the objects of all its records."""
    merged: dict[Path, Sample] = {}
    for sample in samples:
        if sample.path not in merged:
            merged[sample.path] = sample
            continue
        first = merged[sample.path]
        merged[sample.path] = replace(first, instances=first.instances + sample.instances)
        what = f"merged into the record with id {first.image_id}"
        note(Change("listed-twice", sample.path, sample.image_id, what))
    return list(merged.values())


def _renumber(samples: list[Sample], note: Note) -> Iterator[Sample]:
    """Give another annotation id to each object with an id used before."""
    taken = {it.annotation_id for sample in samples for it in sample.instances}
    fresh = max(taken, default=0)
    seen: set[int] = set()
    for sample in samples:
        instances = []
        for instance in sample.instances:
            if instance.annotation_id in seen:
                fresh += 1
                note(Change(RENUMBERED, sample.path, instance.annotation_id, f"the second of this id is now {fresh}"))
                instance = replace(instance, annotation_id=fresh)
            seen.add(instance.annotation_id)
            instances.append(instance)
        yield replace(sample, instances=tuple(instances))


def _repair_instance(instance: Instance, sample: Sample, note: Note) -> Instance | None:
    """Return the object, or None if the object covers no pixel."""

    def did(kind: str, what: str) -> None:
        note(Change(kind, sample.path, instance.annotation_id, what))

    drawn = draw_one(instance, sample.height, sample.width)
    if not drawn.area:
        outside = excess(sample, instance) > STICKS_OUT
        did("outside" if outside else "zero-area", "removed: covers no pixel of the picture")
        return None
    repaired = instance
    if any(found and not found[0].startswith("Ring") for found in map(crossing, _parts(instance))):
        did("self-intersecting", "replaced the polygons by a mask of the same pixels")
        repaired = replace(repaired, shape=_as_mask(instance, sample))
    if excess(sample, instance) > STICKS_OUT:
        cut = _cut(repaired, sample)
        did("outside", "cut at the picture's edge" + (", as a mask" if isinstance(cut.shape, RunLengths) else ""))
        repaired = replace(cut, box=clip_box(instance.box, sample.height, sample.width))
    if drawn.rle is not None and differs(repaired.box, drawn.box):
        did("box-mismatch", "took the mask's own box")
        repaired = replace(repaired, box=drawn.box)
    if drawn.rle is not None and area_differs(instance, drawn):
        did("area-mismatch", f"area {instance.area:g} became {drawn.area:g}")
        repaired = replace(repaired, area=drawn.area)
    return repaired


def _parts(instance: Instance) -> tuple[NDArray[np.float64], ...]:
    return instance.shape.parts if isinstance(instance.shape, Polygons) else ()


def _cut(instance: Instance, sample: Sample) -> Instance:
    """Return the part of the shape in the picture: polygons if they draw the same pixels, else the mask."""
    if not isinstance(instance.shape, Polygons):
        return instance
    frame = shapely.box(0, 0, sample.width, sample.height)
    pieces = [shapely.intersection(shapely.make_valid(shapely.Polygon(part)), frame) for part in instance.shape.parts]
    rings = [
        np.asarray(piece.exterior.coords, dtype=np.float64)[:-1]
        for piece in shapely.get_parts(shapely.get_parts(pieces))
        if isinstance(piece, shapely.Polygon) and not piece.is_empty
    ]
    before = instance.shape.whole(sample.height, sample.width)
    if rings:
        cut = Polygons(tuple(rings))
        after = cut.whole(sample.height, sample.width)
        if coco_mask.iou([dict(after)], [dict(before)], [0])[0][0] > SAME_PIXELS:
            return replace(instance, shape=cut)
    return replace(instance, shape=_as_mask(instance, sample))


def _as_mask(instance: Instance, sample: Sample) -> RunLengths:
    assert instance.shape is not None
    return RunLengths.of(*decode_region(instance.shape.whole(sample.height, sample.width)))

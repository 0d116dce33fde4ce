"""COCO annotation files → samples. Every record is checked here, once; nothing later doubts it."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import hotcoco.mask as coco_mask
import numpy as np

from condinst.data.image import MAX_PIXELS, read_size
from condinst.data.sample import AnnotatedData, Box, Instance, Polygons, RunLengths, Sample
from condinst.errors import DataError

LARGEST_COORDINATE = 1e6  # pixels; also refuses NaN and infinities

Record = dict[str, Any]  # one JSON object, before it is checked


def read_coco(annotations: Path, images: Path, max_pixels: int = MAX_PIXELS) -> AnnotatedData:
    """Read a COCO instance file whose pictures lie in the folder `images`; samples keep the file's order.

    Labels are 0-based in the order of the sorted category ids. Instances whose box or mask has no area (COCO has a few)
    are left out and counted in `notes`. Raises DataError naming file, record and remedy for invalid JSON, missing keys
    or pictures, sizes that contradict each other, unknown or repeated ids, and malformed boxes, polygons or RLEs.
    """
    with _without_collector():
        return _read(_load(annotations), annotations, images, max_pixels)


def skip_empty(data: AnnotatedData) -> AnnotatedData:
    """`data` without the pictures that hold no object or only crowds; a note tells how many they were."""
    kept = tuple(sample for sample in data.samples if not all(instance.crowd for instance in sample.instances))
    left_out = len(data.samples) - len(kept)
    if not left_out:
        return data
    note = f"left out {left_out} of {len(data.samples)} pictures, which have no annotated object"
    return replace(data, samples=kept, notes=(*data.notes, note))


@contextmanager
def _without_collector() -> Iterator[None]:
    """Python's garbage collector would visit the millions of records of a large file again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _read(document: Record, annotations: Path, images: Path, max_pixels: int) -> AnnotatedData:
    names = _read_categories(document, annotations)
    labels = {category_id: label for label, category_id in enumerate(sorted(names))}
    headers = _read_images(document, annotations, images, max_pixels)
    instances: dict[int, list[Instance]] = {image_id: [] for image_id in headers}
    seen: set[int] = set()
    empty = 0
    for index, record in enumerate(_records(document, "annotations", annotations)):
        where = f"{annotations}: annotations[{index}]"
        annotation_id = _new_id(record, seen, where)
        where = f"{annotations}: annotation {annotation_id}"
        image_id = _known(record, "image_id", headers, where)
        label = labels[_known(record, "category_id", labels, where)]
        instance = _read_instance(record, annotation_id, label, headers[image_id], where)
        record.clear()  # a large file is not held twice
        if instance is None:
            empty += 1
        else:
            instances[image_id].append(instance)
    samples = tuple(
        Sample(header.path, image_id, header.width, header.height, tuple(instances[image_id]))
        for image_id, header in headers.items()
    )
    notes = (f"{annotations}: left out {empty} annotations whose box or mask has no area",) if empty else ()
    category_ids = tuple(sorted(names))
    return AnnotatedData(samples, category_ids, tuple(names[number] for number in category_ids), notes, annotations)


@dataclass(frozen=True)
class _Header:
    path: Path
    width: int
    height: int


def _load(path: Path) -> Record:
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError) as error:  # bad JSON, bad UTF-8, too long integers, too deep nesting
        raise DataError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(document, dict):
        raise DataError(f"{path}: expected an object of images, annotations and categories, got {_kind(document)}")
    return document


def _records(document: Record, key: str, path: Path) -> list[Record]:
    if key not in document:
        raise DataError(f"{path}: no '{key}'; a COCO instance file has images, annotations and categories")
    records = document[key]
    if not isinstance(records, list):
        raise DataError(f"{path}: '{key}' must be a list, got {_kind(records)}")
    for index, record in enumerate(records):
        if not isinstance(record, dict):
            raise DataError(f"{path}: {key}[{index}] must be an object, got {_kind(record)}")
    return records


def _read_categories(document: Record, path: Path) -> dict[int, str]:
    """Category id → name."""
    names: dict[int, str] = {}
    seen: set[int] = set()
    for index, record in enumerate(_records(document, "categories", path)):
        where = f"{path}: categories[{index}]"
        category_id = _new_id(record, seen, where)
        names[category_id] = _text(record, "name", where)
    if not names:
        raise DataError(f"{path}: 'categories' is empty; name at least one class")
    if len(set(names.values())) < len(names):
        raise DataError(f"{path}: 'categories' gives two ids the same name; rename or merge them")
    return names


def _read_images(document: Record, path: Path, folder: Path, max_pixels: int) -> dict[int, _Header]:
    """Image id → file and size, which must be the file's own: a mix-up shows now, not hours into training."""
    headers: dict[int, _Header] = {}
    seen: set[int] = set()
    for index, record in enumerate(_records(document, "images", path)):
        where = f"{path}: images[{index}]"
        image_id = _new_id(record, seen, where)
        name = _text(record, "file_name", where)
        width, height = _integer(record, "width", where), _integer(record, "height", where)
        try:
            actual = read_size(folder / name, max_pixels=max_pixels)
        except DataError as error:
            raise DataError(f"{where} (id {image_id}): {error}; is {folder} the folder of the pictures?") from None
        if actual != (height, width):
            raise DataError(
                f"{where} (id {image_id}): says {width}×{height}, but {name} has {actual[1]}×{actual[0]} pixels "
                "(upright by its EXIF orientation); correct the record or the file"
            )
        headers[image_id] = _Header(folder / name, width, height)
    return headers


def _read_instance(record: Record, annotation_id: int, label: int, header: _Header, where: str) -> Instance | None:
    """None if its box or mask has no area."""
    crowd = record.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise DataError(f"{where}: 'iscrowd' must be 0 or 1, got {crowd!a:.40}")
    box = _read_box(record, where)
    segmentation = record.get("segmentation")
    shape: Polygons | RunLengths | None
    if isinstance(segmentation, dict):
        shape = _read_rle(segmentation, header, where)
        if shape is None:
            return None
    else:
        shape = _read_polygons(segmentation, where)
    if box[2] <= box[0] or box[3] <= box[1]:
        return None
    area = _numbers([record["area"]], "area", where)[0] if "area" in record else None
    return Instance(label, box, shape, bool(crowd), annotation_id, area)


def _read_box(record: Record, where: str) -> Box:
    """xywh → xyxy."""
    values = record.get("bbox")
    if not isinstance(values, list) or len(values) != 4:
        raise DataError(f"{where}: 'bbox' must be [x, y, width, height], got {values!a:.60}")
    x, y, width, height = _numbers(values, "bbox", where)
    return x, y, x + width, y + height


def _read_polygons(parts: Any, where: str) -> Polygons | None:
    """None where no part is given: a box alone."""
    if parts is None or parts == []:
        return None
    if not isinstance(parts, list):
        raise DataError(f"{where}: 'segmentation' must be polygons or an RLE, got {_kind(parts)}")
    arrays = []
    for index, part in enumerate(parts):
        if not isinstance(part, list) or len(part) < 6 or len(part) % 2:
            got = f"{len(part)} numbers" if isinstance(part, list) else _kind(part)
            raise DataError(f"{where}: segmentation[{index}] must be [x1, y1, x2, y2, x3, y3, …], got {got}")
        arrays.append(np.array(_numbers(part, f"segmentation[{index}]", where), dtype=np.float64).reshape(-1, 2))
    return Polygons(tuple(arrays))


def _read_rle(rle: Record, header: _Header, where: str) -> RunLengths | None:
    """Compressed (text) or uncompressed (list) run lengths → those of the tight box; None if it is empty."""
    expected = [header.height, header.width]
    if rle.get("size") != expected:
        raise DataError(
            f"{where}: the RLE's size {rle.get('size')!a:.40} contradicts its image's [height, width] {expected}; "
            "correct one of them"
        )
    whole = {"size": expected, "counts": rle.get("counts")}
    try:
        x, y, width, height = (int(side) for side in coco_mask.toBbox(whole))
        mask = coco_mask.decode(whole)[y : y + height, x : x + width]
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"{where}: not a COCO RLE ({error}); write the mask again") from None
    if _covers_less(whole, header):
        raise DataError(f"{where}: the RLE's runs end before the image does; write the mask again")
    return RunLengths.of(mask, x, y) if mask.size else None


def _covers_less(rle: Record, header: _Header) -> bool:
    """Whether the runs sum to less than the image, as in a cut file: hotcoco refuses only sums over the size given."""
    try:
        coco_mask.area({"size": [1, header.height * header.width - 1], "counts": rle["counts"]})
    except ValueError:
        return False
    return True


def _new_id(record: Record, seen: set[int], where: str) -> int:
    value = _integer(record, "id", where)
    if value in seen:
        raise DataError(f"{where}: id {value} is used twice; make ids unique")
    seen.add(value)
    return value


def _known(record: Record, key: str, known: dict[int, Any], where: str) -> int:
    value = _integer(record, key, where)
    if value not in known:
        group = "images" if key == "image_id" else "categories"
        raise DataError(f"{where}: {key} {value} is not among the file's {group}; add it or remove the annotation")
    return value


def _integer(record: Record, key: str, where: str) -> int:
    value = record.get(key)
    if type(value) is not int:
        raise DataError(f"{where}: '{key}' must be a whole number, got {_kind(value)}")
    return value


def _text(record: Record, key: str, where: str) -> str:
    value = record.get(key)
    if not isinstance(value, str) or not value:
        raise DataError(f"{where}: '{key}' must be text, got {_kind(value)}")
    if any(ord(sign) < 32 or 0xD800 <= ord(sign) < 0xE000 for sign in value):  # no file or terminal takes these
        raise DataError(f"{where}: '{key}' holds control characters or half characters: {value!a:.60}")
    return value


def _numbers(values: list[Any], key: str, where: str) -> list[float]:
    for value in values:
        if type(value) not in (int, float) or not abs(value) <= LARGEST_COORDINATE:
            raise DataError(f"{where}: '{key}' must hold finite numbers of pixels, got {value!a:.40}")
    return [float(value) for value in values]


def _kind(value: Any) -> str:
    """What to call a value that should have been another."""
    return {dict: "an object", list: "a list", type(None): "nothing"}.get(type(value), f"{value!a:.40}")

"""results.json and results.csv, made of the journal one picture at a time."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

from condinst.cli.results.folder import RESULTS
from condinst.cli.results.journal import JOURNAL, LEFT_OUT, Journal, Record
from condinst.cli.results.staging import temporary_name
from condinst.errors import CondinstError
from condinst.inference.instances.records import rounded
from condinst.sources.places import Source

TABLE, YOLO = "results.csv", "yolo/data.yaml"
COLUMNS = ("file", "page", "class", "score", "x1", "y1", "x2", "y2", "area")


def close_results(journal: Journal, folder: Path) -> None:
    """Write results.json and the run's other files. Raises CondinstError; the journal then has it all."""
    makers = {TABLE: _table, YOLO: _data_yaml}
    for name in journal.header["run_files"]:
        _write(folder / name, makers[name](journal))
    _write(folder / RESULTS, document(journal))


def document(journal: Journal) -> Iterator[str]:
    """The COCO document in pieces, one line in all. Numbers of images and annotations count from 1."""
    info = {
        "description": journal.header["description"],
        "sources": len(journal.states),
        "left_out": journal.count(LEFT_OUT),
    }
    yield f'{{"info": {json.dumps(info)}, "images": ['
    for number, record in enumerate(journal.images(), 1):
        yield ("" if number == 1 else ", ") + json.dumps({"id": number, **record["image"]}, allow_nan=False)
    yield f'], "categories": {json.dumps(journal.header["categories"])}, "annotations": ['
    yield from _annotations(journal)
    yield "]}\n"


def _annotations(journal: Journal) -> Iterator[str]:
    number = 0
    for image, record in enumerate(journal.images(), 1):
        for annotation in record["annotations"]:
            number += 1
            whole = {"id": number, "iscrowd": 0, "image_id": image, **annotation}
            yield ("" if number == 1 else ", ") + json.dumps(whole, allow_nan=False)


def _table(journal: Journal) -> Iterator[str]:
    names = {category["id"]: category["name"] for category in journal.header["categories"]}
    yield _row(COLUMNS)
    for record in journal.images():
        image = record["image"]
        for found in record["annotations"]:
            x, y, width, height = found["bbox"]
            edges = (f"{edge:.2f}" for edge in (x, y, x + width, y + height))
            place = image["file_name"], image.get("page", ""), names[found["category_id"]]
            yield _row((*place, f"{found['score']:.4f}", *edges, found["area"]))


def _data_yaml(journal: Journal) -> Iterator[str]:
    """The classes, where Ultralytics and labelling tools look for them. A label is the category's id less one."""
    import yaml

    names = {category["id"] - 1: category["name"] for category in journal.header["categories"]}
    yield yaml.safe_dump({"train": "images", "names": names}, allow_unicode=True, sort_keys=False)


def _row(values: tuple[object, ...]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


def _write(path: Path, pieces: Iterator[str]) -> None:
    temporary = temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8", newline="") as file:
            file.writelines(pieces)
        temporary.replace(path)
    except OSError as error:
        raise CondinstError(
            f"{path}: cannot be written ({error.strerror or error}); all results are in {path.with_name(JOURNAL)}: "
            "free some space and run the same command with --resume"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def record_of(source: Source, size: tuple[int, int], found: list[Record]) -> Record:
    """The line of one picture: numbers with the digits that they deserve. size: (height, width)."""
    annotations = [{key: value for key, value in rounded(entry).items() if key != "image_id"} for entry in found]
    page = {} if source.page is None else {"page": source.page}
    image = {"file_name": source.file_name, **page, "width": size[1], "height": size[0]}
    return {"image": image, "annotations": annotations}

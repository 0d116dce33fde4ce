"""What is known about a shipped model: the layout of src/condinst/zoo/NAME/scores.json, and how it is gathered."""

from __future__ import annotations

import csv
import hashlib
import os
import re
from pathlib import Path

import numpy as np

from benchmarks.facts import Facts
from condinst.config import Config
from condinst.data.formats.coco.read import read_coco
from condinst.data.sample import AnnotatedData
from condinst.errors import DataError
from condinst.evaluation.analysis import Fit
from condinst.evaluation.cases import truth_of
from condinst.evaluation.evaluate import Scores


class DataFacts(Facts):
    """The data set: counts from its annotation files, the rest from its LICENSE.txt."""

    folder: str  # as typed
    title: str
    licence: str
    attribution: str
    source: str
    changes: str
    train_images: int
    train_objects: int
    val_images: int
    val_objects: int
    median_side: float  # pixels: root of the median mask area of the held-out objects


class TrainingFacts(Facts):
    """How the shipped weights came about. settings: the recipe in a line. minutes: None if not recorded."""

    recipe: str
    settings: str
    command: str
    hardware: str
    minutes: float | None


class SameTime(Facts):
    """CondInst trained for as many iterations as take Mask R-CNN's time."""

    iterations: int
    seconds: float
    scores: dict[int, Scores]


class Rival(Facts):
    """What benchmarks/accuracy/mask_rcnn.py writes to its scores.json."""

    recipe: str
    data: str = ""  # name of its folder, and "own recipe" where the recipe is that of a shipped model
    seed: int = 0
    command: str = ""
    parameters: int
    iterations: int
    images_seen: int  # iterations × batch, the same for both models of the comparison
    training_seconds: float
    scores: dict[int, Scores]  # by detection limit, as the next
    condinst: dict[int, Scores]  # CondInst trained with the very same settings
    condinst_seconds: float
    same_time: SameTime | None = None


class Card(Facts):
    """One shipped model. Scores, ceiling and the rival's scores are by detection limit."""

    name: str
    classes: tuple[str, ...]
    segments: str
    limits_of_use: tuple[str, ...]
    data: DataFacts
    training: TrainingFacts
    parameters: int
    file_bytes: int
    scores: dict[int, Scores]
    ceiling: dict[int, Scores]  # of a detector that answers with the truth
    rival: Rival | None
    rival_command: str
    conf: float  # score from which on objects count and are drawn in the pictures
    fits: tuple[Fit, ...]  # every held-out picture with objects, best first
    shown: dict[str, str]  # picture in docs/images → file in the data set
    remarks: tuple[str, ...]


def describe_data(folder: Path, root: Path) -> tuple[DataFacts, AnnotatedData]:
    """Facts about the set in `folder` (train.json, val.json, images/, LICENSE.txt), and its held-out samples.

    Raises DataError for data that cannot be used, or if a held-out picture is a training picture too.
    """
    licence = read_licence(folder / "LICENSE.txt")
    train, val = (read_coco(folder / f"{part}.json", folder / "images") for part in ("train", "val"))
    _check_held_out(train, val)
    sides = [np.sqrt(area) for area in _mask_areas(val)]
    facts = DataFacts(
        folder=portable(folder, root),
        title=licence["title"],
        licence=licence["licence"].split(" (")[0].split(" - ")[0].strip(),
        attribution=licence.get("attribution") or licence.get("creator") or licence["title"],
        source=licence.get("source repo", ""),
        changes=licence.get("changes", ""),
        train_images=len(train.samples),
        train_objects=_count(train),
        val_images=len(val.samples),
        val_objects=_count(val),
        median_side=round(float(np.median(sides)), 1) if sides else 0.0,
    )
    return facts, val


def read_licence(path: Path) -> dict[str, str]:
    """`Field : text` lines with their continuation lines, keys in lower case; the first line is `title`.

    Raises DataError if there is no file or it names no licence: what has none is not shipped.
    """
    try:
        title, *lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        raise DataError(f"{path}: cannot be read; a data set needs its licence beside it") from None
    fields, key = {"title": title.strip()}, ""
    for line in lines:
        found = re.match(r"(\w[\w ]*?)\s*: (.*)", line)
        if found and not line.startswith(" "):
            key = found[1].lower()
            fields[key] = found[2].strip()
        elif key:
            fields[key] += " " + line.strip()
    if not fields.get("licence"):
        raise DataError(f"{path}: no line 'Licence : …'; say under what terms the data may be used")
    return fields


def describe_training(
    run: Path, config: Config, recipe: str, command: str | None, hardware: str, minutes: float | None
) -> TrainingFacts:
    """What was told, and where nothing was, what the run's own files say."""
    settings, size = config.train, config.input
    crop = f" in crops of {config.augment.crop} px" if config.augment.crop else ""
    precision = "float32" if settings.precision == "no" else settings.precision
    words = (
        f"{config.model.backbone.name}, {settings.iterations} iterations of {settings.batch_size} images{crop}, "
        f"{settings.optimizer}, learning rate {settings.lr:g} ({settings.schedule}), {precision} precision; "
        f"predicts at shorter side {size.shorter}, longer side at most {size.longer} px"
    )
    return TrainingFacts(
        recipe=recipe,
        settings=words,
        command=command or config.about.get("command", "not recorded"),
        hardware=hardware,
        minutes=training_minutes(run / "log.csv", settings.batch_size) if minutes is None else minutes,
    )


def training_minutes(log: Path, batch_size: int) -> float | None:
    """The time that the training log's own images per second add up to; None without a log."""
    if not log.is_file():
        return None
    seconds, before = 0.0, 0.0
    with log.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            seconds += (float(row["iteration"]) - before) * batch_size / float(row["images_per_second"])
            before = float(row["iteration"])
    return seconds / 60


def portable(path: str | Path, root: Path) -> str:
    """The path as a reader can use it from the repository: never one that only this machine has."""
    if not Path(path).is_absolute():
        return str(path)
    relative = Path(os.path.relpath(path, root))
    return str(relative) if relative.parts[:2].count("..") < 2 else relative.name


def _check_held_out(train: AnnotatedData, val: AnnotatedData) -> None:
    """Byte for byte, whatever the files are called."""
    known = {hashlib.sha256(sample.path.read_bytes()).digest(): sample.path.name for sample in train.samples}
    for sample in val.samples:
        same = known.get(hashlib.sha256(sample.path.read_bytes()).digest())
        if same is not None:
            raise DataError(f"{sample.path}: held out, but it is the training picture {same}; take it out of one part")


def _count(data: AnnotatedData) -> int:
    return sum(not instance.crowd for sample in data.samples for instance in sample.instances)


def _mask_areas(data: AnnotatedData) -> list[int]:
    return [area for sample in data.samples for area in truth_of(sample, data.classes).masks.areas.tolist()]

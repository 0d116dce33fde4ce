"""Check an exported program before it is written: its answers on pictures, and its AP on annotated data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from condinst.config import Config
from condinst.data.open import open_data
from condinst.data.pictures.image import list_images
from condinst.data.sample import AnnotatedData
from condinst.errors import CondinstError, DataError
from condinst.evaluation.evaluate import evaluate
from condinst.export.compare import (
    Difference,
    Limits,
    answer_of_model,
    answer_of_program,
    compare,
    own_pictures,
    prepare,
)
from condinst.export.formats.torch_file import run_executorch, run_torch
from condinst.export.names import Format
from condinst.export.runtime import run_whole
from condinst.inference.network import Mode, make_network
from condinst.predictor import Predictor
from condinst.sources.read import read_source

DATA_SUFFIXES = {".json", ".yaml", ".yml", ".xml"}
COMPARED = 8  # pictures of a data set
TOGETHER = 3  # pictures in the batch
# Most mask AP that a program may lose: in float32, and in 16 or 8 bit
FLOAT_LOSS, NARROW_LOSS = 0.001, 0.005
Say = Callable[[str], None]


class Contestant(NamedTuple):
    """A model or program to measure. loss: the mask AP that it may lose against the first contestant."""

    name: str
    source: str | Path
    mode: Mode | None
    loss: float


class Measured(NamedTuple):
    """AP of boxes and of masks of one contestant. loss: see `Contestant`."""

    name: str
    box: float
    mask: float
    loss: float


def find_check_data(check: Sequence[Path], say: Say) -> tuple[AnnotatedData | None, list[Path]]:
    """The data for AP, if `check` is one data set, and the pictures to compare on.

    Without any, the pictures that come with the package. Raises DataError for what cannot be read.
    """
    if not check:
        return None, own_pictures()
    if len(check) == 1 and (check[0].is_dir() or check[0].suffix in DATA_SUFFIXES):
        try:
            data = open_data(check[0], "val")
        except DataError as error:
            if not check[0].is_dir() or not (pictures := list_images([str(check[0])])):
                raise
            say(f"note: no AP, because {error}")
            return None, pictures[:COMPARED]
        step = max(1, len(data.samples) // COMPARED)
        return data, [sample.path for sample in data.samples[::step]][:COMPARED]
    return None, list_images([str(path) for path in check])


def differences_on(
    format: Format,
    path: Path,
    model: nn.Module,
    config: Config,
    pictures: Sequence[Path],
    fixed: tuple[int, int] | None,
) -> list[Difference]:
    """How the program at `path` differs from `model` on each picture, and on a batch of the first ones.

    fixed: (height, width) of a program for one size and one picture.
    """
    network = make_network(model, "exact", torch.device("cpu"), config.model.size_divisor)
    run = {"torch": run_torch, "executorch": run_executorch}.get(format, run_whole)
    read = [read_source(picture, range=config.input.range) for picture in pictures]
    groups = [[picture] for picture in read]
    if fixed is None and len(read) > 1:
        groups.append(read[:TOGETHER])
    differences = []
    for group in groups:
        images = prepare(group, config, fixed)
        expected = answer_of_model(network, images, config)
        found = answer_of_program(run(path, images.tensor))
        for picture, *both in zip(group, expected, found, strict=True):
            name = Path(picture.name).name + (" in a batch" if len(group) > 1 else "")
            differences.append(compare(name, *both))
    return differences


def refuse_differences(differences: Sequence[Difference]) -> None:
    """Raise CondinstError for a difference beyond the limits."""
    for one in differences:
        if fault := one.beyond(Limits()):
            raise CondinstError(f"{one.picture}: the program differs from the model: {fault}; nothing was written")


def measure_all(
    contestants: Sequence[Contestant], config: Config, data: AnnotatedData, say: Say = lambda text: None
) -> list[Measured]:
    """AP of each contestant at the `max_detections` of `config`. say: called before each contestant."""
    limit = config.detect.max_detections
    measured = []
    for one in contestants:
        say(f"measuring {one.name} on {len(data.samples)} pictures")
        predictor = Predictor(one.source, "cpu", None, mode=one.mode, max_detections=limit)
        scores = evaluate(data, predictor, limit)
        measured.append(Measured(one.name, scores.bbox.AP, scores.segm.AP, one.loss))
    return measured


def refuse_loss(measured: Sequence[Measured]) -> None:
    """Raise CondinstError for a program that loses more mask AP than it may."""
    for one in measured[1:]:
        if (lost := measured[0].mask - one.mask) > one.loss:
            raise CondinstError(
                f"{one.name}: loses {100 * lost:.1f} points of mask AP (limit {100 * one.loss:.1f}); nothing was "
                "written; for 8 bit, calibrate with more pictures or leave --int8 out"
            )

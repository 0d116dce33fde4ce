"""What is done with a damaged input: as much of the package as reads it, a CondinstError being a fine end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.fuzz.seeds import tiny_backbone, tiny_config
from condinst.config import Config
from condinst.data.findings import Finding
from condinst.data.formats.convert import Target, convert_data
from condinst.data.open import list_splits, open_data
from condinst.data.pictures.image import list_images, read_image, read_size
from condinst.data.truth import draw_truth
from condinst.doctor.examination import examine
from condinst.engine.checkpoint import load_checkpoint
from condinst.engine.run_folder.curves import draw_training
from condinst.engine.run_folder.log import forget_rows
from condinst.engine.run_folder.scores import best_iteration, forget_scores
from condinst.engine.stop import list_checkpoints
from condinst.errors import CondinstError
from condinst.model.condinst import CondInst
from condinst.recipes import load_recipe
from condinst.weights.backbone import load_backbone_weights
from condinst.weights.folder import load_model
from condinst.weights.outline import outline

MATRIX = np.array([[1.5, 0.0, 0.0], [0.0, 1.5, 0.0]])
Step = Callable[[], object]


def attempt(steps: list[Step]) -> list[str]:
    """Run each step; the lines that ended some of them. Any other error passes through."""
    lines = []
    for step in steps:
        try:
            step()
        except CondinstError as error:
            lines.append(str(error))
    return lines


def try_input(kind: str, path: Path, scratch: Path) -> list[str]:
    """All lines that a user would see about the input at `path`. scratch: an empty folder for what is written."""
    return TARGETS[kind](path, scratch)


def _picture(path: Path, _: Path) -> list[str]:
    return attempt([lambda: read_size(path), lambda: read_image(path), lambda: list_images([str(path.parent)])])


def _data(path: Path, scratch: Path) -> list[str]:
    said: list[str] = []
    lines = attempt([lambda: said.extend(list_splits(path))])
    lines += attempt([partial(_examine, path, split, lines) for split in (*said, None)])
    targets: tuple[Target, ...] = ("coco", "yolo", "labelme")
    return lines + attempt([partial(convert_data, path, scratch / target, target) for target in targets])


def _examine(path: Path, split: str | None, lines: list[str]) -> None:
    found: list[Finding] = []
    data = open_data(path, split or "train", report=found.append)
    examination = examine({split or "all": data}, {split or "all": tuple(found)}, Config())
    lines += [str(finding) for finding in examination.findings] + list(data.notes)
    for sample in data.samples:
        draw_truth(sample, MATRIX, int(sample.height * 1.5) + 1, int(sample.width * 1.5) + 1, 4)


def _weights(path: Path, _: Path) -> list[str]:
    if path.is_dir():
        return attempt([lambda: load_model(path)])
    model = [lambda: load_model(path)] if path.suffix in {".pth", ".pt"} else []
    return attempt([*model, lambda: load_backbone_weights(tiny_backbone(), path)])


def _run(path: Path, _: Path) -> list[str]:
    steps: list[Step] = [lambda: Config.from_yaml(path / "config.yaml"), lambda: draw_training(path)]
    steps += [lambda: best_iteration(path), lambda: forget_scores(path, 1), lambda: forget_rows(path / "log.csv", 1)]
    model = CondInst(tiny_config().model)
    for checkpoint in list_checkpoints(path):
        steps.append(partial(load_checkpoint, checkpoint, {"model": model}))
    return attempt(steps)


def _settings(path: Path, _: Path) -> list[str]:
    return attempt([lambda: outline(load_recipe(str(path)))])


TARGETS: dict[str, Callable[[Path, Path], list[str]]] = {
    "picture": _picture,
    "data": _data,
    "weights": _weights,
    "run": _run,
    "settings": _settings,
}

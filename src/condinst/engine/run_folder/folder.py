"""A run's folder: at its beginning settings, environment, labels; at its end measurements and the report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator

from condinst.config import Config
from condinst.data.sample import AnnotatedData
from condinst.engine.run_folder.curves import draw_training, read_columns
from condinst.engine.run_folder.environment import record_environment, record_memory
from condinst.engine.run_folder.log import READERS, unwritable
from condinst.engine.run_folder.own_files import BATCH, LABELS, LOG, PREDICTIONS, REPORT, check_places, find_partial
from condinst.engine.run_folder.pictures import draw_labels, draw_predictions, show_training
from condinst.engine.run_folder.scores import best_iteration, forget_scores, record_scores
from condinst.evaluation.evaluate import Progress
from condinst.evaluation.report import Measured, measure, write_report
from condinst.files import replace_file
from condinst.memory import peak_memory
from condinst.predictor import Predictor
from condinst.weights.names import CONFIG_FILE


def start_folder(
    folder: Path,
    config: Config,
    data: AnnotatedData,
    accelerator: Accelerator,
    iteration: int,
    memory: int | None = None,
) -> list[str]:
    """Prepare the folder for a run from `iteration` on. Return lines for the user. Main process only.

    memory: bytes that the plan expects the run to need. Raises CondinstError if the folder cannot be written, or if
    files of an earlier start are damaged.
    """
    try:
        check_places(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for rest in find_partial(folder):
            rest.unlink()
        forget_scores(folder, iteration)
        # the first file: it shows that the folder is a run's
        same = record_environment(folder, data, accelerator, iteration, memory)
        replace_file(folder / CONFIG_FILE, config.to_yaml().encode())
        replace_file(folder / LABELS, draw_labels(data).encode())
    except OSError as error:
        raise unwritable(folder, error) from error
    return [] if same else ["note: the training data has changed since the last start of this run"]


def finish_folder(
    folder: Path,
    config: Config,
    data: AnnotatedData,
    val: AnnotatedData | None,
    progress: Progress | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Measured | None:
    """Measure the model in the folder if there is data to measure on, and write the report.

    tell: called with a line about the memory that the run has used.
    """
    measured = None
    if val is not None:
        predictor = Predictor(folder, conf=None, mode="exact")
        measured = measure(val, predictor, config.detect.max_detections, progress)
        if not config.train.validate_every:  # else it was recorded when it was found the best
            forget_scores(folder, config.train.iterations - 1)
            record_scores(measured.scores, folder, config.train.iterations)
        write_picture(folder / PREDICTIONS, draw_predictions(val, predictor))
    best = best_iteration(folder) if val is not None and config.train.validate_every else None
    model = str(folder) if best is None else f"{folder}, the best measured checkpoint (iteration {best})"
    facts = {"Model": model, "Trained on": str(data.source)}
    facts |= {"Measured on": str(val.source)} if val is not None else {}
    facts["Memory"] = record_memory(folder, most_memory(folder))
    tell(f"memory: {facts['Memory']}")
    curves, pictures = draw_training(folder), show_training(folder / BATCH.format(1), folder / LABELS)
    training = [*pictures, *curves] if measured is None else [*curves, *pictures]  # pictures on the first screen
    write_report(folder / REPORT, f"{folder.name}: training", config, measured, training, facts)
    return measured


def most_memory(folder: Path) -> int:
    """The most bytes that this process has used: of its GPU, or together with the processes that read its pictures."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    readers = [megabytes for _, megabytes in read_columns(folder / LOG).get(READERS, [])]
    return peak_memory() + int(2**20 * max(readers, default=0))


def write_picture(path: Path, content: bytes) -> None:
    """Raises CondinstError if it cannot be written."""
    try:
        replace_file(path, content)
    except OSError as error:
        raise unwritable(path, error) from error

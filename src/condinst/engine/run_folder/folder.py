"""A run's folder: at its beginning settings, environment, labels; at its end measurements and the report."""

from __future__ import annotations

from pathlib import Path

from accelerate import Accelerator

from condinst.config import Config
from condinst.data.sample import AnnotatedData
from condinst.engine.run_folder.curves import draw_training
from condinst.engine.run_folder.environment import record_environment
from condinst.engine.run_folder.log import unwritable
from condinst.engine.run_folder.own_files import BATCH, LABELS, PREDICTIONS, REPORT, check_places, find_partial
from condinst.engine.run_folder.pictures import draw_labels, draw_predictions, show_training
from condinst.engine.run_folder.scores import best_iteration, forget_scores, record_scores
from condinst.evaluation.evaluate import Progress
from condinst.evaluation.report import Measured, measure, write_report
from condinst.files import replace_file
from condinst.predictor import Predictor
from condinst.weights.names import CONFIG_FILE


def start_folder(
    folder: Path, config: Config, data: AnnotatedData, accelerator: Accelerator, iteration: int
) -> list[str]:
    """Make the folder ready for a run from `iteration` on; returns lines for people. Main process only.

    Raises CondinstError if it cannot be written, or if what an earlier start wrote there is damaged.
    """
    try:
        check_places(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for rest in find_partial(folder):
            rest.unlink()
        forget_scores(folder, iteration)
        same = record_environment(folder, data, accelerator, iteration)  # first: it shows that the folder is a run's
        replace_file(folder / CONFIG_FILE, config.to_yaml().encode())
        replace_file(folder / LABELS, draw_labels(data).encode())
    except OSError as error:
        raise unwritable(folder, error) from error
    return [] if same else ["note: the training data has changed since the last start of this run"]


def finish_folder(
    folder: Path, config: Config, data: AnnotatedData, val: AnnotatedData | None, progress: Progress | None = None
) -> Measured | None:
    """Measure the model as it lies in the folder, if there is data to measure on, and write the report."""
    measured = None
    if val is not None:
        predictor = Predictor(folder, conf=None)
        measured = measure(val, predictor, config.detect.max_detections, progress)
        if not config.train.validate_every:  # else it was recorded when it was found the best
            forget_scores(folder, config.train.iterations - 1)
            record_scores(measured.scores, folder, config.train.iterations)
        write_picture(folder / PREDICTIONS, draw_predictions(val, predictor))
    best = best_iteration(folder) if val is not None and config.train.validate_every else None
    model = str(folder) if best is None else f"{folder}, the best measured checkpoint (iteration {best})"
    facts = {"Model": model, "Trained on": str(data.source)}
    facts |= {"Measured on": str(val.source)} if val is not None else {}
    training = [*draw_training(folder), *show_training(folder / BATCH.format(1), folder / LABELS)]
    write_report(folder / REPORT, f"{folder.name}: training", config, measured, training, facts)
    return measured


def write_picture(path: Path, content: bytes) -> None:
    """Raises CondinstError if it cannot be written."""
    try:
        replace_file(path, content)
    except OSError as error:
        raise unwritable(path, error) from error

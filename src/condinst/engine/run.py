"""A whole training run: open the data, choose settings, train, measure, and write a report."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from accelerate import PartialState

from condinst.config import Config
from condinst.data.open import list_splits, open_data
from condinst.data.sample import AnnotatedData
from condinst.engine.planning.choose import plan_settings
from condinst.engine.planning.hold_out import Held, hold_out, hold_out_again, record_held_out
from condinst.engine.planning.settings import base_settings, is_planned, override
from condinst.engine.processes import join_processes
from condinst.engine.run_folder.environment import digest, last_digest
from condinst.engine.run_folder.folder import finish_folder
from condinst.engine.run_folder.own_files import HELD_OUT, REPORT, emptied_on_failure, refuse_overwriting
from condinst.engine.stop import list_checkpoints
from condinst.engine.train import measurable, told_failure, train, usable
from condinst.errors import CondinstError, UsageError
from condinst.evaluation.evaluate import Progress, Scores
from condinst.evaluation.match import match_classes
from condinst.evaluation.report import Measured
from condinst.inference.forks import expect_forks
from condinst.lock import locked
from condinst.predictor import Predictor
from condinst.weights.folder import Stored, read_model
from condinst.weights.names import CONFIG_FILE

Tell = Callable[[str], None]
Show = Callable[[str], Progress | None]


@dataclass(frozen=True)
class Request:
    """The arguments of a run.

    out: the folder to write. start: the model to start from. data, val: paths in any annotation format. images,
    val_images: folders of the pictures, if the pictures are not where the format defines. Without `val`, the run
    measures on the validation part of `data`; without a validation part, the run holds out some pictures. With
    `measure` False, the run has no validation.
    """

    data: Path
    out: Path
    recipe: str | None = None
    start: str | None = None
    settings: tuple[str, ...] = ()
    images: Path | None = None
    val: Path | None = None
    val_images: Path | None = None
    measure: bool = True
    resume: bool = False


@dataclass(frozen=True)
class Trained:
    """A finished run.

    folder: the folder with the model and the report. measured: None without validation data. main_process: whether this
    process measures and writes the files; exactly one of several processes does.
    """

    folder: Path
    config: Config
    measured: Measured | None
    main_process: bool = True

    @property
    def scores(self) -> Scores | None:
        """Scores on the validation data; None without validation data."""
        return None if self.measured is None else self.measured.scores

    @property
    def report(self) -> Path:
        """Path of the HTML report."""
        return self.folder / REPORT

    def predictor(self, device: str | None = None) -> Predictor:
        """Make a predictor from the trained model."""
        return Predictor(self.folder, device, mode="exact")

    def __repr__(self) -> str:
        scores = self.scores
        numbers = "" if scores is None else f", box AP {scores.bbox.AP:.3f}, mask AP {scores.segm.AP:.3f}"
        return f"Trained({str(self.folder)!r}{numbers})"


def run(request: Request, tell: Tell, show: Show) -> Trained:
    """Train as requested.

    tell: called with each line for the user. show: called with the name of a task, returns a progress counter. If the
    run fails at once, the function removes the folder that it created. Raises UsageError, DataError or ModelError for
    settings, data or a model that cannot be used, CondinstError for a failure during training.
    """
    expect_forks()
    out, overrides = request.out, list(request.settings)
    if not request.resume:
        refuse_overwriting(out)
    start = None if request.start is None else read_model(request.start)
    planned = is_planned(request.recipe)
    earlier = _earlier_settings(out, overrides) if request.resume and planned else None
    config = earlier or base_settings(request.recipe, start, overrides)
    data = open_data(request.data, "train", request.images)
    val = _validation(request)
    fresh = not out.exists()
    _make_folder(out)
    try:
        return _run(config, planned and earlier is None, data, val, start, request, tell, show)
    finally:
        if fresh:
            with suppress(OSError):  # the folder is not empty
                out.rmdir()


def _make_folder(folder: Path) -> None:
    """Create `folder` and check that files can be written to it. Raises CondinstError if not."""
    probe = folder / f".condinst.{os.getpid()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise CondinstError(f"{folder}: cannot be written ({error.strerror}); choose another --out") from None


def _validation(request: Request) -> AnnotatedData | None:
    if request.val is not None:
        return open_data(request.val, "val", request.val_images)
    if not request.measure and request.val_images is None:
        return None
    if "val" in list_splits(request.data):
        return open_data(request.data, "val", request.val_images or request.images)
    if request.val_images is not None:
        raise UsageError("--val-images needs --val: give the annotation file, too")
    return None


def _earlier_settings(out: Path, overrides: list[str]) -> Config | None:
    """Return the settings of the earlier run; None without an earlier run. Raises UsageError if they are lost."""
    path = out / CONFIG_FILE
    if path.exists():
        return override(Config.from_yaml(path), overrides)
    if list_checkpoints(out):
        raise UsageError(
            f"{path}: missing, but --resume reads the settings from it; restore the file, or give --recipe"
        )
    return None


def _run(
    config: Config,
    planned: bool,
    data: AnnotatedData,
    val: AnnotatedData | None,
    start: Stored | None,
    request: Request,
    tell: Tell,
    show: Show,
) -> Trained:
    """planned: whether to compute the settings that the user did not give from the data."""
    lines: list[str] = []
    memory = None
    state, out, held = join_processes(), request.out, None
    if val is None and request.measure:
        data, held, held_lines = _hold_out(data, config, request, show)
        val, lines = held, [*held_lines]
    if val:  # notes on both are printed once, with the training data
        val = replace(val, notes=tuple(note for note in val.notes if note not in data.notes))
    if val and not measurable(val):
        lines.append(f"note: {val.source}: no object is annotated, so there are no validation scores")
        val = None
    if val:  # compare the classes now, not after hours of training
        lines += [f"note: {note}" for note in match_classes(dict(enumerate(data.classes)), val)[1]]
        lines += _shared_pictures(data, val)
    if planned:
        plan = plan_settings(config, list(request.settings), data, state, val, start is not None)
        config, memory, lines = plan.config, plan.memory, [*plan.lines, *lines]
    for line in lines if state.is_main_process else ():
        tell(line)
    with locked(out, "training", reentrant=True) if state.is_main_process else nullcontext():
        if state.is_main_process and not request.resume:
            refuse_overwriting(out)  # check again: another run may have ended since
        with emptied_on_failure(out, state.is_main_process):
            if state.is_main_process:
                record_held_out(out, held, request.resume)
            config = train(config, data, out, request.resume, val, start, memory)
        measured = _measure(config, data, val, out, state, tell, show)
        return Trained(out, config, measured, state.is_main_process)


def _hold_out(data: AnnotatedData, config: Config, request: Request, show: Show) -> Held:
    """Split data without a validation part. A resumed run keeps its split."""
    out = request.out
    resumed = request.resume and bool(list_checkpoints(out))
    if resumed and (again := hold_out_again(data, out)):
        return again
    if resumed and last_digest(out) == digest(usable(data, config)):  # the run trains on all pictures
        return Held(data, None, ())
    held = hold_out(data, config.train.seed, show("compared"))
    missing = f"note: {out / HELD_OUT} is missing, so condinst chooses the validation pictures anew"
    return held._replace(lines=(missing, *held.lines)) if resumed and held.val else held


def _shared_pictures(data: AnnotatedData, val: AnnotatedData) -> list[str]:
    """Return a warning if the training and validation data share files."""
    seen = {sample.path.resolve() for sample in data.samples}
    shared = sum(sample.path.resolve() in seen for sample in val.samples)
    if not shared:
        return []
    return [
        f"warning: {shared} of the {len(val.samples)} validation pictures are also training pictures, so the scores "
        "say nothing about new pictures; 'condinst data check' lists them"
    ]


def _measure(
    config: Config,
    data: AnnotatedData,
    val: AnnotatedData | None,
    out: Path,
    state: PartialState,
    tell: Tell,
    show: Show,
) -> Measured | None:
    """On the main process, measure the model in its folder and write the report."""
    if not state.is_main_process:
        return None
    with told_failure(f"the model is in {out}", "--resume measures it again"):
        return finish_folder(out, config, data, val, show("measured"), tell)

"""Train a model on a data set and write a model folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from condinst.config import Config
from condinst.data.sample import AnnotatedData, skip_empty
from condinst.engine.batches import make_steps
from condinst.engine.build import build_model
from condinst.engine.fit import Measure, Terms, fit
from condinst.engine.losses import Part, prepare, step_losses
from condinst.engine.planning.changes import compare_settings
from condinst.engine.planning.settings import count_iterations
from condinst.engine.planning.statistics import measure_seen
from condinst.engine.processes import make_accelerator
from condinst.engine.run_folder.folder import start_folder, write_picture
from condinst.engine.run_folder.log import Tell
from condinst.engine.run_folder.nonfinite import save_parts
from condinst.engine.run_folder.own_files import BATCH, DRAWN, LAST, emptied_on_failure
from condinst.engine.run_folder.pictures import draw_batch
from condinst.engine.run_folder.scores import record_scores, recorded_score
from condinst.engine.run_folder.trackers import open_trackers
from condinst.engine.stop import last_iteration
from condinst.errors import CondinstError, DataError, UsageError, first_line, out_of_memory
from condinst.evaluation.evaluate import evaluate
from condinst.lock import locked
from condinst.methods.choose import method_of
from condinst.model.instance_network import InstanceNetwork
from condinst.predictor import Predictor
from condinst.weights.folder import Stored, save_model

AGAIN = "no step is lost: --resume measures again; add train.validate_every=0 to continue without measuring"


def train(
    config: Config,
    data: AnnotatedData,
    folder: Path,
    resume: bool = False,
    val: AnnotatedData | None = None,
    start: Stored | None = None,
    memory: int | None = None,
) -> Config:
    """Train on `data` and write config.yaml and model.safetensors to `folder`. Return the configuration used.

    The model learns the classes of the data set. With `val` and `train.validate_every`, `folder` holds the model with
    the best mask AP on `val` (box AP if `val` has no masks), and `folder`/last holds the last model. Otherwise `folder`
    holds the last model. start: a model to take the initial weights from.
    memory: bytes that the plan expects, for the record. Raises UsageError, DataError or ModelError
    for settings, data or weights that cannot be used, CondinstError for a failure during training.
    """
    if config.train.patience and not (val and config.train.validate_every):
        raise UsageError(
            f"train.patience={config.train.patience}: patience needs measurements during training; give validation "
            "data and set train.validate_every"
        )
    if val and not measurable(val):
        raise DataError(f"{val.source}: no object is annotated, so it gives no scores; leave it out")
    data = usable(data, config)
    seen = config.input.model_copy(update={"seen": measure_seen(data, config.input)})
    model_config = config.model.model_copy(update={"classes": data.classes})
    config = config.model_copy(update={"model": model_config, "input": seen})
    planned, config = config.train.iterations, count_iterations(config, len(data.samples))
    accelerator = make_accelerator(config, folder)
    main = accelerator.is_main_process
    with (
        emptied_on_failure(folder, main),
        locked(folder, "training", reentrant=True) if main else nullcontext(),
    ):
        iteration = last_iteration(folder) if resume else 0
        changes = compare_settings(folder, config, iteration) if iteration else []
        model, lines = build_model(config, accelerator, None if iteration else start)
        begin = method_of(config.model).begin
        if begin is not None and not iteration:
            lines += begin(model, config)
        if iteration:  # the initial weights no longer describe the model
            lines = [f"continuing from iteration {iteration} of {config.train.iterations}", *changes]
        elif resume:
            lines.append(f"note: {folder} holds no checkpoint to resume from, so training starts at the beginning")
        if config.train.iterations != planned:
            lines.append(f"length: {config.train.iterations} iterations, from train.epochs={config.train.epochs:g}")
        if accelerator.is_main_process:
            lines += start_folder(folder, config, data, accelerator, iteration, memory)
        for line in (*lines, *(f"note: {note}" for note in data.notes)):
            accelerator.print(line, file=sys.stderr)
        _learn(model, config, data, folder, accelerator, resume, val if config.train.validate_every else None)
    return config


def _learn(
    model: InstanceNetwork,
    config: Config,
    data: AnnotatedData,
    folder: Path,
    accelerator: Accelerator,
    resume: bool,
    val: AnnotatedData | None,
) -> None:
    """Train `model` and write its weights. val: validation data during training."""
    with open_trackers(config, folder, accelerator) as tell, plain_memory_errors(config):
        measure = _measure(config, val, folder, tell) if val else None
        kept = fit(
            model,
            partial(step_losses, config=config, accelerator=accelerator),
            partial(_prepared_steps, config=config, data=data, folder=folder, accelerator=accelerator),
            config.train,
            folder,
            accelerator,
            resume,
            measure,
            partial(_inspect, config=config, folder=folder, accelerator=accelerator),
            tell,
        )
    if accelerator.is_main_process:
        assert isinstance(kept, InstanceNetwork)
        save_model(kept, config, folder / LAST if measure else folder, half=config.train.half)


def _prepared_steps(
    start: int, config: Config, data: AnnotatedData, folder: Path, accelerator: Accelerator
) -> Iterator[list[Part]]:
    """Make the steps for the training loop, and save pictures of the first batches in the folder."""
    for number, step in enumerate(make_steps(start, config, data, accelerator), start=start + 1):
        if number <= DRAWN and accelerator.is_main_process:
            write_picture(folder / BATCH.format(number), draw_batch(step[0].to(torch.device("cpu")), config.model))
        yield prepare(step, config, accelerator)


def usable(data: AnnotatedData, config: Config) -> AnnotatedData:
    """Prepare the data for the settings. Raises DataError for data without anything to learn."""
    if not data.samples:
        raise DataError(f"{data.source}: the training set has no pictures; check the annotation file")
    if not measurable(data):
        raise DataError(f"{data.source}: the training set has no annotated instance; check the annotation file")
    if config.train.skip_empty:
        data = skip_empty(data)
    if federated := sum(sample.federated is not None for sample in data.samples):
        note = f"{federated} pictures are annotated for some classes only (neg_category_ids, as in LVIS); "
        note += "training ignores this: objects without annotation count as background"
        data = replace(data, notes=(*data.notes, f"{data.source}: {note}"))
    if config.targets.supervision == "boxes":
        data = forget_masks(data)
    if config.model.semantic:
        require_masks(data, "the semantic head learns only from masks; set model.semantic=false")
    return data


def measurable(data: AnnotatedData) -> bool:
    """Return whether the data has objects. Without objects, all scores are −1 and the first model stays the best."""
    return any(not instance.crowd for sample in data.samples for instance in sample.instances)


def forget_masks(data: AnnotatedData) -> AnnotatedData:
    """Return the same data with only the boxes."""
    samples = (
        replace(sample, instances=tuple(replace(instance, shape=None) for instance in sample.instances))
        for sample in data.samples
    )
    return replace(data, samples=tuple(samples))


def require_masks(data: AnnotatedData, reason: str) -> None:
    """Raise DataError, with `reason` at the end, if an instance has only a box."""
    for sample in data.samples:
        for instance in sample.instances:
            if instance.shape is None and not instance.crowd:
                raise DataError(f"{sample.path}: annotation {instance.annotation_id} has no mask; {reason}")


def _measure(config: Config, val: AnnotatedData, folder: Path, tell: Tell | None) -> Measure:
    """Return the function that measures the network during training and saves the best network."""

    def measure(module: nn.Module, iteration: int, best: float) -> float:
        with told_failure(f"iteration {iteration}", AGAIN):
            return take(module, iteration, best)

    def take(module: nn.Module, iteration: int, best: float) -> float:
        earlier = recorded_score(folder, iteration)
        if earlier is not None:  # the run was killed after this measurement
            return earlier
        assert isinstance(module, InstanceNetwork)
        predictor = Predictor.from_model(module, config, str(next(module.parameters()).device))
        scores = evaluate(val, predictor, config.detect.max_detections)
        score = scores.bbox.AP if scores.segm.AP < 0 else scores.segm.AP
        if score > best:  # before the score is recorded, so that a recorded best has its weights
            save_model(module, config, folder, half=config.train.half)
        numbers = record_scores(scores, folder, iteration)
        if tell is not None:
            tell({f"val/{name}": value for name, value in numbers.items()}, iteration)
        words = f"box AP {scores.bbox.AP:.3f}" + (f", mask AP {scores.segm.AP:.3f}" if scores.segm.AP >= 0 else "")
        print(f"iteration {iteration}: {words}{', the best so far' * (score > best)}", file=sys.stderr)
        return score

    return measure


@contextmanager
def told_failure(what: str, remedy: str) -> Iterator[None]:
    """Turn any exception into one line: `what`, the reason, `remedy`. Interruptions pass unchanged."""
    try:
        yield
    except CondinstError as error:
        raise type(error)(f"{what}: cannot be measured: {error}; {remedy}") from error
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error):.150}"
        raise CondinstError(f"{what}: cannot be measured ({reason}); {remedy}") from error


def _inspect(
    iteration: int,
    parts: Sequence[Part],
    losses: Sequence[Terms],
    config: Config,
    folder: Path,
    accelerator: Accelerator,
) -> str:
    """Save a step that is not finite for inspection."""
    batches = [part.batch for part in parts]
    try:
        return save_parts(
            folder, iteration, batches, losses, config.model, config.train.seed, accelerator.process_index
        )
    except OSError as error:
        return f"its pictures cannot be saved ({error.strerror or error})"


@contextmanager
def plain_memory_errors(config: Config) -> Iterator[None]:
    """Turn an out-of-memory error into one line."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        half, more = max(config.train.batch_size // 2, 1), config.train.accumulate * 2
        raise CondinstError(
            f"not enough memory ({first_line(error):.150}); try train.batch_size={half} train.accumulate={more}, "
            "train.recompute=true, or a smaller augment.crop or augment.shorter"
        ) from error

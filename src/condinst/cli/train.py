"""`condinst train`: annotated images in, a model folder out."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from condinst.cli.options import RangeOption
from condinst.cli.say import say

if TYPE_CHECKING:
    from condinst.config import Config
    from condinst.data.sample import AnnotatedData
    from condinst.engine.planning.hold_out import Held
    from condinst.weights.folder import Stored

INTERRUPTED, TERMINATED = 130, 143
NOTHING = "none"  # as --val: there is nothing to measure on


def train(
    data: Annotated[
        Path,
        typer.Option(
            help="Annotated images in any common format: a folder, or a COCO JSON, YOLO data.yaml or CVAT XML file."
        ),
    ],
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE", help="A shipped recipe or a YAML file; without one, the data decides the settings."
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="NAME|FOLDER|FILE",
            help="A trained model to begin with: any that --model of predict takes.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the model and all that the run writes; default: runs/RECIPE or runs/DATA."),
    ] = None,
    range: RangeOption = None,
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings to change: train.lr=0.01")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images; default: where the format puts them.")
    ] = None,
    val: Annotated[
        str | None,
        typer.Option(
            metavar="DATA|none",
            help="Data to measure on; default: the val part of --data, else a tenth to a fifth of its pictures, which "
            "are then not trained on. none: measure on nothing.",
        ),
    ] = None,
    val_images: Annotated[Path | None, typer.Option(help="Its images; default: as for --images.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")] = False,
) -> None:
    """Train a model. The classes are the data set's; the result is used as `--model OUT`.

    Measures on the validation data every `train.validate_every` iterations, keeps the model of the best mask AP, and
    measures it at the end.
    """
    from condinst.cli.output import make_folder
    from condinst.data.formats.open import open_data
    from condinst.engine.planning.settings import base_settings
    from condinst.engine.run_folder.own_files import refuse_overwriting
    from condinst.engine.stop import Terminated, terminable

    overrides = [*(settings or []), *([] if range is None else [f"input.range={range}"])]
    out = out or Path("runs") / (Path(recipe).stem if recipe else data.resolve().stem)
    if not resume:
        refuse_overwriting(out)
    stored = _read_start(start)
    earlier = _earlier_settings(out, overrides) if resume and recipe is None else None
    config = earlier or base_settings(recipe, stored, overrides)
    annotated = open_data(data, "train", images)
    measured_on = _validation(data, images, val, val_images)
    fresh = not out.exists()
    make_folder(out)
    try:
        with terminable():
            undivided = measured_on is None and val != NOTHING
            _run(
                config, None if recipe or earlier else overrides, annotated, measured_on, undivided, out, resume, stored
            )
    except KeyboardInterrupt as stop:
        say(_words_on_interruption(out), err=True)
        raise typer.Exit(TERMINATED if isinstance(stop, Terminated) else INTERRUPTED) from None
    finally:
        if fresh:
            _remove_empty(out)


def _remove_empty(folder: Path) -> None:
    """A run that was refused leaves nothing."""
    with suppress(OSError):  # it holds something
        folder.rmdir()


def _read_start(name: str | None) -> Stored | None:
    if name is None:
        return None
    from condinst.weights.folder import read_model

    return read_model(name)


def _validation(data: Path, images: Path | None, val: str | None, val_images: Path | None) -> AnnotatedData | None:
    from condinst.data.formats.open import list_splits, open_data
    from condinst.errors import UsageError

    if val is not None and val != NOTHING:
        return open_data(Path(val), "val", val_images)
    if val == NOTHING and val_images is None:
        return None
    if "val" in list_splits(data):
        return open_data(data, "val", val_images or images)
    if val_images is not None:
        raise UsageError("--val-images without --val: name the annotation file too")
    return None


def _earlier_settings(out: Path, overrides: list[str]) -> Config | None:
    """The settings that the run was started with; None where no run was. Raises UsageError if they are lost."""
    from condinst.config import Config
    from condinst.engine.stop import list_checkpoints
    from condinst.errors import UsageError
    from condinst.weights.names import CONFIG_FILE

    path = out / CONFIG_FILE
    if path.exists():
        return Config.from_yaml(path).with_overrides(overrides)
    if list_checkpoints(out):
        raise UsageError(f"{path}: is missing, and --resume reads the settings from it; put it back, or give --recipe")
    return None


def _words_on_interruption(out: Path) -> str:
    from condinst.engine.stop import last_iteration

    iteration = last_iteration(out)
    if not iteration:
        return "interrupted: before the first checkpoint"
    return f"interrupted: the checkpoint of iteration {iteration} is kept; --resume goes on from it"


def _run(
    config: Config,
    planned: list[str] | None,
    data: AnnotatedData,
    measured_on: AnnotatedData | None,
    undivided: bool,
    out: Path,
    resume: bool,
    start: Stored | None,
) -> None:
    """planned: settings that the user gave where the data decides the others. undivided: `data` may be divided."""
    from condinst.engine.planning.choose import plan_settings
    from condinst.engine.planning.hold_out import record_held_out
    from condinst.engine.processes import join_processes
    from condinst.engine.run_folder.lock import locked
    from condinst.engine.run_folder.own_files import emptied_on_failure, refuse_overwriting
    from condinst.engine.train import measurable
    from condinst.engine.train import train as train_model
    from condinst.evaluation.evaluate import match_classes

    lines: list[str] = []
    state = join_processes()
    held = None
    if undivided:
        data, held, told = _hold_out(data, config, out, resume)
        measured_on, lines = held, [*told]
    if measured_on and not measurable(measured_on):
        lines.append(f"note: {measured_on.source}: no object is annotated, so nothing is measured on it")
        measured_on = None
    if measured_on:  # classes that do not match must show now, not after hours of training
        lines += [f"note: {note}" for note in match_classes(dict(enumerate(data.classes)), measured_on)[1]]
        lines += _shared_pictures(data, measured_on)
    if planned is not None:
        plan = plan_settings(config, planned, data, state, measured_on is not None, start is not None)
        config, lines = plan.config, [*plan.lines, *lines]
    for line in lines if state.is_main_process else ():
        say(line, err=True)
    with locked(out) if state.is_main_process else nullcontext():
        if state.is_main_process and not resume:
            refuse_overwriting(out)  # once more: another run may have ended since
        with emptied_on_failure(out, state.is_main_process):
            if state.is_main_process:
                record_held_out(out, held, resume)
            config = train_model(config, data, out, resume, measured_on, start)
        if state.is_main_process:
            _finish(config, data, measured_on, out)


def _hold_out(data: AnnotatedData, config: Config, out: Path, resume: bool) -> Held:
    """Divide data that has no validation part; a resumed run keeps the division that it began with."""
    from condinst.cli.output import show_progress
    from condinst.engine.planning.hold_out import Held, hold_out, hold_out_again
    from condinst.engine.stop import list_checkpoints

    if resume and list_checkpoints(out):
        return hold_out_again(data, out) or Held(data, None, ())
    return hold_out(data, config.train.seed, show_progress("compared"))


def _shared_pictures(data: AnnotatedData, measured_on: AnnotatedData) -> list[str]:
    """A warning, if the same files are learnt from and measured on."""
    seen = {sample.path.resolve() for sample in data.samples}
    shared = sum(sample.path.resolve() in seen for sample in measured_on.samples)
    if not shared:
        return []
    return [
        f"warning: {shared} of the {len(measured_on.samples)} pictures to measure on are trained on too: their numbers "
        "tell nothing of new pictures; 'condinst data check' names them"
    ]


def _finish(config: Config, data: AnnotatedData, measured_on: AnnotatedData | None, out: Path) -> None:
    """Measure the model as it lies in its folder, and say how to use it."""
    from shlex import quote

    from condinst.cli.output import show_progress
    from condinst.cli.val import print_scores
    from condinst.engine.run_folder.folder import finish_folder
    from condinst.engine.run_folder.own_files import REPORT
    from condinst.engine.train import told_failure

    with told_failure(f"the model is in {out}", "--resume measures it again"):
        measured = finish_folder(out, config, data, measured_on, show_progress("measured"))
    if measured is not None:
        print_scores(measured.scores, measured.analysis, json=False)
    say(f"the report is {out / REPORT}")
    say(f"the model is in {out}; use it with: condinst predict IMAGE --model {quote(str(out))}")

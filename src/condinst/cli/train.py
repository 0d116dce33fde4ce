"""`condinst train`: a recipe and annotated images in, a model folder out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from torch import nn

    from condinst.config import Config
    from condinst.engine.evaluate import Scores
    from condinst.predictor import Predictor

Pair = tuple[Path, Path]  # annotation file, image folder
SCORES = "scores.jsonl"  # in the run's folder, a line for each measurement


def train(
    data: Annotated[
        Path,
        typer.Option(
            help="COCO annotation file; or a folder with train.json, images/ and maybe val.json; or COCO's own folder."
        ),
    ],
    recipe: Annotated[str, typer.Option(metavar="NAME|FILE", help="A shipped recipe or a YAML file.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the model, its settings, checkpoints and log.csv; default: runs/RECIPE."),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Recipe settings to change: train.lr=0.01")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images; default: images/ beside the annotations, or COCO's own.")
    ] = None,
    val: Annotated[
        Path | None, typer.Option(help="COCO file to measure on; default: that of the --data folder, if it has one.")
    ] = None,
    val_images: Annotated[Path | None, typer.Option(help="Its images; default: as for --images.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")] = False,
) -> None:
    """Train a model. The classes are the data set's; the result is used as `--model OUT`. COCO's own folder has
    annotations/instances_train2017.json and train2017/, likewise for val, of any one year.

    Measures on the validation set at the end, and every `train.validate_every` iterations if that is set.
    """
    from condinst.cli.datasets import locate
    from condinst.cli.output import make_folder
    from condinst.recipes import load_recipe

    config = load_recipe(recipe).with_overrides(settings or [])
    out = out or Path("runs") / Path(recipe).stem
    pair = locate(data, images, "train")
    measured_on = _validation(data, images, val, val_images)
    make_folder(out)
    _refuse_second_run(out, resume)
    _run(config, pair, measured_on, out, resume)


def _validation(data: Path, images: Path | None, val: Path | None, val_images: Path | None) -> Pair | None:
    from condinst.cli.datasets import find_split, locate
    from condinst.errors import UsageError

    if val is not None:
        return locate(val, val_images, "val")
    if data.is_dir() and find_split(data, "val"):
        return locate(data, val_images or images, "val")
    if val_images is not None:
        raise UsageError("--val-images without --val: name the annotation file too")
    return None


def _refuse_second_run(out: Path, resume: bool) -> None:
    from condinst.errors import UsageError
    from condinst.weights.names import WEIGHTS_FILE

    if not resume and (any(out.glob("checkpoint-*")) or (out / WEIGHTS_FILE).exists()):
        raise UsageError(f"{out}: holds a training run already; add --resume to go on, or choose another --out")


def _run(config: Config, pair: Pair, measured_on: Pair | None, out: Path, resume: bool) -> None:
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    from condinst.cli.val import print_scores
    from condinst.data.coco import read_coco
    from condinst.engine.evaluate import match_classes
    from condinst.engine.train import train as train_model
    from condinst.predictor import Predictor

    data = read_coco(*pair)
    notes: tuple[str, ...] = ()
    if measured_on:  # classes that do not match must show now, not after hours of training
        notes = match_classes(dict(enumerate(data.classes)), read_coco(*measured_on))[1]
    # as Accelerator will: the first of the two decides for both
    main_process = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU")).is_main_process
    for note in notes if main_process else ():
        typer.echo(f"note: {note}", err=True)
    train_model(config, data, out, resume, _after(config, measured_on, out))
    if not main_process:
        return
    if measured_on:
        print_scores(_measure(Predictor(out, conf=None), measured_on, out, config.train.iterations), json=False)
    typer.echo(f"the model is in {out}; use it with: condinst predict IMAGE --model {out}")


def _after(config: Config, measured_on: Pair | None, out: Path) -> Callable[[nn.Module, int], None] | None:
    """What the training loop calls now and then: measure the network as it stands."""
    if measured_on is None:
        return None

    def after(module: nn.Module, iteration: int) -> None:
        from condinst.cli.val import shown
        from condinst.model.condinst import CondInst
        from condinst.predictor import Predictor

        assert isinstance(module, CondInst)
        if iteration == config.train.iterations:
            return  # the finished model is measured from its file
        settings = config.model_copy(update={"model": module.config})
        device = str(next(module.parameters()).device)
        scores = _measure(Predictor.from_model(module, settings, device), measured_on, out, iteration)
        numbers = f"box AP {shown(scores.bbox.AP)}, mask AP {shown(scores.segm.AP)}"
        typer.echo(f"iteration {iteration}: {numbers}", err=True)

    return after


def _measure(predictor: Predictor, measured_on: Pair, out: Path, iteration: int) -> Scores:
    """Scores at the recipe's own detection limit, appended to the run's record of them."""
    from json import dumps

    from condinst.data.coco import read_coco
    from condinst.engine.evaluate import evaluate

    scores = evaluate(read_coco(*measured_on), predictor, predictor.config.detect.max_detections)
    with (out / SCORES).open("a", encoding="utf-8") as file:
        file.write(dumps({"iteration": iteration, **scores.to_dict()}) + "\n")
    return scores

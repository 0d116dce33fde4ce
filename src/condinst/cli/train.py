"""`condinst train`: train a model on annotated images and write a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from condinst.cli.options import RangeOption
from condinst.cli.terminal.interrupts import stoppable
from condinst.cli.terminal.say import say

NOTHING = "none"  # value of --val: no validation


def train(
    data: Annotated[
        Path,
        typer.Option(help="Annotated images: a folder, or a COCO JSON, YOLO data.yaml or CVAT XML file."),
    ],
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE", help="Shipped recipe or YAML file. Default: settings computed from the data."
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="NAME|FOLDER|FILE",
            help="Trained model to start from: any value that --model of `predict` accepts.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the model, checkpoints and report. Default: runs/RECIPE or runs/DATA."),
    ] = None,
    range: RangeOption = None,
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Settings to change, for example train.lr=0.01."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images. Default: the place that the format defines.")
    ] = None,
    val: Annotated[
        str | None,
        typer.Option(
            metavar="DATA|none",
            help="Validation data. Default: the val part of --data; without a val part, 10 to 20 percent of the "
            "pictures, which training then leaves out. none: no validation.",
        ),
    ] = None,
    val_images: Annotated[
        Path | None, typer.Option(help="Folder of the validation images. Default: as for --images.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint in --out.")] = False,
) -> None:
    """Train a model on annotated images.

    Example: condinst train --data my_data --out runs/my_model

    The model learns the classes of the data set. Training measures the mask AP on the validation data every
    `train.validate_every` iterations and keeps the model with the best mask AP. Use the result with `--model OUT`.
    """
    from shlex import quote

    from condinst.cli.terminal.output import show_progress
    from condinst.cli.val import print_scores
    from condinst.engine.run import Request, run

    out = out or Path("runs") / (Path(recipe).stem if recipe else data.resolve().stem)
    measured_on = None if val is None or val == NOTHING else Path(val)
    overrides = (*(settings or ()), *(() if range is None else (f"input.range={range}",)))
    request = Request(data, out, recipe, start, overrides, images, measured_on, val_images, val != NOTHING, resume)
    with stoppable(lambda: _words_on_interruption(out)):
        trained = run(request, lambda line: say(line, err=True), show_progress)
    if not trained.main_process:
        return
    if trained.measured is not None:
        print_scores(trained.measured.scores, trained.measured.analysis, json=False)
    say(f"the report is {trained.report}")
    say(f"the model is in {out}; use it with: condinst predict IMAGE --model {quote(str(out))}")


def _words_on_interruption(out: Path) -> str:
    from condinst.engine.stop import last_iteration

    iteration = last_iteration(out)
    if not iteration:
        return "interrupted before the first checkpoint"
    return f"interrupted; --resume continues from the checkpoint of iteration {iteration}"

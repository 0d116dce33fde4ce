"""`condinst convert`: a published program's file in, a model folder out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def convert(
    file: Annotated[Path, typer.Argument(help="A CondInst that AdelaiDet or mmdetection wrote (.pth).")],
    out: Annotated[Path, typer.Argument(help="Folder for the model and its settings.")],
    half: Annotated[bool, typer.Option("--half", help="Store weights as 16 bit: half the size.")] = False,
) -> None:
    """Turn a published model, or a training checkpoint that holds one, into a folder for --model.

    Only tensors and plain containers are read from FILE; nothing in it runs.
    """
    from condinst.model.condinst import CondInst
    from condinst.weights.folder import save_model
    from condinst.weights.foreign import read_foreign

    config, tensors = read_foreign(file)
    model = CondInst(config.model)
    model.load_state_dict(tensors)
    save_model(model, config, out, half)
    about = config.about
    typer.echo(f"{out}: {config.model.backbone.name}, {len(config.model.classes)} classes, from {about['origin']}")
    typer.echo(f"licence: {about['licence']}")

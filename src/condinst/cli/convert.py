"""`condinst convert`: any model in, a model folder with its card out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE", help="A CondInst that AdelaiDet or mmdetection wrote (.pth), or a name as for --model."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder for the model, its settings and its card.")],
    half: Annotated[bool, typer.Option("--half", help="Store weights as 16 bit: half the size.")] = False,
) -> None:
    """Turn a published model, or a training checkpoint that holds one, into a folder for --model.

    Only tensors and plain containers are read from a file; nothing in it runs.
    """
    from condinst.weights.folder import load_model, save_model

    model, config = load_model(source)
    save_model(model, config, out, half, card=True)
    about = config.about
    origin = f", from {about['origin']}" if "origin" in about else ""
    typer.echo(f"{out}: {config.model.backbone.name}, {len(config.model.classes)} classes{origin}")
    typer.echo(f"licence: {about.get('licence', 'not stated')}")

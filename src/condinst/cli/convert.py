"""`condinst convert`: write a model as a model folder with a model card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from condinst.cli.terminal.say import say
from condinst.errors import UsageError, one_line


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE",
            help="CondInst checkpoint of AdelaiDet or mmdetection (.pth), or a name that --model accepts.",
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder for the weights, the settings and the model card.")],
    half: Annotated[bool, typer.Option("--half", help="Store the weights as float16, in half the size.")] = False,
) -> None:
    """Convert a published model or a training checkpoint to a folder for --model.

    Example: condinst convert model.pth my_model

    The command reads only tensors and plain containers from the file. It runs no code in the file.
    """
    from condinst.weights.folder import load_model, save_model

    _check_out(out)
    model, config = load_model(source)
    save_model(model, config, out, half, card=True)
    about = config.about
    origin = f", from {one_line(about['origin'])}" if "origin" in about else ""
    say(f"{out}: {config.model.backbone.name}, {len(config.model.classes)} classes{origin}")
    say(f"licence: {about.get('licence', 'not stated')}")


def _check_out(out: Path) -> None:
    """Raise UsageError if `out` holds files of the user. Only a model folder may be replaced."""
    from condinst.weights.card import is_own_card
    from condinst.weights.names import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE

    try:
        present = {path.name for path in out.iterdir()} if out.exists() else set()
        foreign_card = CARD_FILE in present and not is_own_card((out / CARD_FILE).read_bytes())
    except OSError as error:
        raise UsageError(f"{out}: cannot be used as a folder ({error.strerror}); choose another one") from None
    if present and not {CONFIG_FILE, WEIGHTS_FILE} <= present:
        raise UsageError(
            f"{out}: the folder has files but no model; choose a new or empty folder, or a model folder to replace"
        )
    if foreign_card:
        raise UsageError(f"{out / CARD_FILE}: condinst did not write this file; move it or choose another folder")

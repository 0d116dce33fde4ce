"""`condinst convert`: any model in, a model folder with its card out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from condinst.cli.say import say
from condinst.errors import UsageError, one_line


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

    _check_out(out)
    model, config = load_model(source)
    save_model(model, config, out, half, card=True)
    about = config.about
    origin = f", from {one_line(about['origin'])}" if "origin" in about else ""
    say(f"{out}: {config.model.backbone.name}, {len(config.model.classes)} classes{origin}")
    say(f"licence: {about.get('licence', 'not stated')}")


def _check_out(out: Path) -> None:
    """Raise UsageError where files of the user's own could be lost: only a model folder is replaced."""
    from condinst.weights.card import is_own_card
    from condinst.weights.names import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE

    try:
        present = {path.name for path in out.iterdir()} if out.exists() else set()
        foreign_card = CARD_FILE in present and not is_own_card((out / CARD_FILE).read_bytes())
    except OSError as error:
        raise UsageError(f"{out}: no folder to write into ({error.strerror}); choose another one") from None
    if present and not {CONFIG_FILE, WEIGHTS_FILE} <= present:
        raise UsageError(
            f"{out}: holds files and no model; choose a new or empty folder, or one with a model to replace"
        )
    if foreign_card:
        raise UsageError(f"{out / CARD_FILE}: not written by this program; move it away or choose another folder")

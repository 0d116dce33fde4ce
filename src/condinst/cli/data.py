"""`condinst data …`: verbs about annotated images, without a model."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from condinst.cli.check import check
from condinst.cli.say import say

data = typer.Typer(name="data", help="Check, convert and divide annotated images.", no_args_is_help=True)
data.command()(check)


class FormatOption(StrEnum):
    """What can be written."""

    coco = "coco"
    yolo = "yolo"
    labelme = "labelme"


class Pictures(StrEnum):
    """How the pictures get into the new folder."""

    copy = "copy"
    link = "link"


@data.callback()
def about() -> None:
    """Check, convert and divide annotated images."""


@data.command()
def convert(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="Annotated images in any format that --data of `train` takes.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New or empty folder to write.")],
    format: Annotated[FormatOption, typer.Option(help="What to write: COCO JSON, YOLO segmentation or labelme.")],
    split: Annotated[
        str, typer.Option(metavar="train|val|test|NAME|all", help="Subset of the data set to take.")
    ] = "all",
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images; default: where the format puts them.")
    ] = None,
    pictures: Annotated[
        Pictures, typer.Option(help="Copy the picture files, or make symbolic links to them.")
    ] = Pictures.copy,
) -> None:
    """Write annotated images in another format. No instance is lost; what a format cannot hold is counted and told."""
    from condinst.data.formats.convert import convert_data
    from condinst.data.formats.splits import WHOLE

    wanted = None if split == WHOLE else split
    done = convert_data(source, out, format.value, wanted, images, pictures is Pictures.link)
    for note in done.notes:
        say(f"note: {note}", err=True)
    for name, images_written, instances in done.written:
        say(f"{name}: {images_written} pictures, {instances} instances")


@data.command()
def split(
    source: Annotated[
        Path, typer.Argument(metavar="DIR", help="Annotated images in any format that --data of `train` takes.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New or empty folder to write.")],
    val: Annotated[float, typer.Option(help="Share of the pictures to measure on while training.")] = 0.2,
    test: Annotated[float, typer.Option(help="Share of the pictures to keep for a last test.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Another number divides them otherwise.")] = 0,
    format: Annotated[FormatOption, typer.Option(help="What to write.")] = FormatOption.coco,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images; default: where the format puts them.")
    ] = None,
    pictures: Annotated[
        Pictures, typer.Option(help="Copy the picture files, or make symbolic links to them.")
    ] = Pictures.copy,
) -> None:
    """Divide annotated images into train, val and test, written as a copy.

    Copies of a picture, and pictures much alike, are in the same part, so that the val and test pictures are new to a
    model. Each class is in every part if enough pictures show it.
    """
    from condinst.cli.output import show_progress
    from condinst.doctor.write_split import split_data

    shares = {"val": val, "test": test}
    link = pictures is Pictures.link
    done = split_data(source, out, format.value, shares, seed, images, link, show_progress("compared"))
    for note in done.notes:
        say(f"note: {note}", err=True)
    for name, images_written, instances in done.written:
        say(f"{name}: {images_written} pictures, {instances} instances")

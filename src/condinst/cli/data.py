"""`condinst data …`: commands on annotated images that need no model."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from condinst.cli.check import check
from condinst.cli.terminal.say import say
from condinst.cli.terminal.usage import Verb
from condinst.errors import UsageError

data = typer.Typer(name="data", no_args_is_help=True)
data.command(cls=Verb)(check)


class FormatOption(StrEnum):
    """Annotation formats that condinst writes."""

    coco = "coco"
    yolo = "yolo"
    labelme = "labelme"


class Pictures(StrEnum):
    """How to put the pictures into the new folder."""

    copy = "copy"
    link = "link"


@data.callback()
def about() -> None:
    """Check, convert and split annotated images.

    Example: condinst data check my_data
    """


@data.command(cls=Verb)
def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SRC", help="Annotated images: a folder, or a COCO JSON, YOLO data.yaml or CVAT XML file."
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write. It must be new or empty.")],
    format: Annotated[FormatOption, typer.Option(help="Format to write: COCO JSON, YOLO segmentation or labelme.")],
    split: Annotated[
        str, typer.Option(metavar="train|val|test|NAME|all", help="Subset of the data set to convert.")
    ] = "all",
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images. Default: the place that the format defines.")
    ] = None,
    pictures: Annotated[
        Pictures, typer.Option(help="How to put the pictures into OUT: copy the files, or make symbolic links.")
    ] = Pictures.copy,
) -> None:
    """Convert annotated images to another format.

    Example: condinst data convert my_data my_yolo --format yolo

    The command keeps every instance. A note counts everything else that the format cannot store.
    """
    from condinst.data.formats.convert import convert_data
    from condinst.data.formats.splits import WHOLE

    wanted = None if split == WHOLE else split
    done = convert_data(source, out, format.value, wanted, images, pictures is Pictures.link)
    for note in done.notes:
        say(f"note: {note}", err=True)
    for name, images_written, instances in done.written:
        say(f"{name}: {images_written} pictures, {instances} instances")


@data.command(cls=Verb)
def split(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="Annotated images: a folder, or a COCO JSON, YOLO data.yaml or CVAT XML file."
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write. It must be new or empty.")],
    val: Annotated[float, typer.Option(help="Share of the pictures for validation during training.")] = 0.2,
    test: Annotated[float, typer.Option(help="Share of the pictures for a final test.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random split.")] = 0,
    format: Annotated[FormatOption, typer.Option(help="Format to write.")] = FormatOption.coco,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images. Default: the place that the format defines.")
    ] = None,
    pictures: Annotated[
        Pictures, typer.Option(help="How to put the pictures into OUT: copy the files, or make symbolic links.")
    ] = Pictures.copy,
) -> None:
    """Split annotated images into train, val and test, and write a copy.

    Example: condinst data split my_data my_split --val 0.2

    Copies of a picture and very similar pictures go into the same part. A model trained on the train part has therefore
    never seen the val and test pictures. Every part contains each class if enough pictures show the class.
    """
    from condinst.cli.terminal.output import show_progress
    from condinst.doctor.write_split import split_data

    shares = {"val": val, "test": test}
    link = pictures is Pictures.link
    done = split_data(source, out, format.value, shares, seed, images, link, show_progress("compared"))
    for note in done.notes:
        say(f"note: {note}", err=True)
    for name, images_written, instances in done.written:
        say(f"{name}: {images_written} pictures, {instances} instances")


@data.command(name="mask-code", cls=Verb)
def mask_code(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", help="Annotated images: a folder, or a COCO JSON, YOLO data.yaml or CVAT XML file."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="File to write, with the ending .npz.")],
    split: Annotated[str, typer.Option(metavar="train|val|NAME|all", help="Subset of the data set.")] = "train",
    numbers: Annotated[int, typer.Option(min=1, max=4096, help="Numbers in the code of a mask.")] = 60,
    side: Annotated[int, typer.Option(min=2, max=128, help="Side of the square mask in the box, in cells.")] = 28,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the soft labels.")] = 0,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images. Default: the place that the format defines.")
    ] = None,
) -> None:
    """Learn the mask code that an MEInst needs for its training.

    Example: condinst data mask-code my_data --out code.npz

    A code is a short list of numbers that stands for a mask. The command prints how well codes keep masks that it did
    not learn from. Train with: condinst train --recipe meinst-r50-1x --data my_data train.mask_code=code.npz
    """
    from condinst.cli.terminal.output import show_progress, write_bytes
    from condinst.data.open import open_data
    from condinst.training.boxed.code_file import pack_code
    from condinst.training.boxed.learn_code import learn_code, squares_of

    if out.suffix != ".npz":
        raise UsageError(f"--out {out}: the ending must be .npz")
    found = open_data(source, split, images)
    learned = learn_code(squares_of(found, side, show_progress("pictures")), numbers, seed)
    write_bytes(out, pack_code(learned.code, learned.ratio))
    say(f"{out}: {numbers} numbers for {side}×{side} masks, learned from {learned.masks} masks of {source}")
    say(f"the code keeps {learned.ratio.sum():.1%} of their variance")
    if learned.held:
        say(f"mean IoU with the decoded mask, of {learned.held} masks that it did not learn from: {learned.iou:.3f}")

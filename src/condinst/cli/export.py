"""`condinst export`: write a model as a program for other runtimes."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from condinst.cli.options import Model, NmsOption
from condinst.cli.terminal.say import say
from condinst.errors import UsageError, one_line

if TYPE_CHECKING:
    from condinst.export.folder import Checked

SIZE = re.compile(r"(\d{1,5})[x×,](\d{1,5})", re.IGNORECASE)


class Format(StrEnum):
    """The kind of program."""

    onnx = "onnx"
    openvino = "openvino"
    torch = "torch"
    executorch = "executorch"


def export(
    out: Annotated[Path, typer.Option(help="Folder for the program, its settings, a card and an example.")],
    model: Model = "nuclei",
    format: Annotated[
        Format,
        typer.Option(
            help="onnx: ONNX Runtime and others. openvino: OpenVINO, the fastest on CPUs. torch: torch.export (.pt2). "
            "executorch: phones and boards. The last two need --fixed."
        ),
    ] = Format.onnx,
    int8: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA",
            help="Also write the network in 8 bit, calibrated on these annotated images (openvino).",
        ),
    ] = None,
    fixed: Annotated[
        str | None,
        typer.Option(metavar="HEIGHTxWIDTH", help="Make a program for one image of this size. Default: any size."),
    ] = None,
    check: Annotated[
        list[Path] | None,
        typer.Option(
            help="Image to compare program and model on; repeat it for more. An annotated data set gives AP before and "
            "after, too. Default: three images that come with condinst."
        ),
    ] = None,
    max_detections: Annotated[
        int | None, typer.Option(min=1, help="Maximum number of instances in an image. The program has this many rows.")
    ] = None,
    nms: NmsOption = None,
) -> None:
    """Write a model as one program with the masks inside, and compare the program with the model.

    Example: condinst export --model nuclei --format onnx --out nuclei_onnx
    """
    size = _size(fixed)
    from condinst.cli.terminal.interrupts import interruptible
    from condinst.export.folder import Wish, export_model

    wish = Wish(
        model,
        format.value,
        out,
        int8,
        size,
        tuple(check or ()),
        max_detections,
        None if nms is None else nms.value,
    )
    with interruptible() as check_interrupts:

        def tell(text: str) -> None:
            check_interrupts()
            say(one_line(text), err=True)

        checked = export_model(wish, tell)
    _print(checked, out)


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = SIZE.fullmatch(text)
    if match is None:
        raise UsageError(f"--fixed {text}: expected HEIGHTxWIDTH in pixels, for example 640x640")
    return int(match[1]), int(match[2])


def _print(checked: Checked, out: Path) -> None:
    from condinst.cli.terminal.output import print_table

    rows = [
        (
            one.picture,
            f"{one.counts[0]}, {one.counts[1]}",
            f"{one.box:.1e}",
            f"{one.score:.1e}",
            f"{one.mask_iou:.4f}",
            f"{one.cells} of {one.of:,}",
        )
        for one in checked.differences
    ]
    print_table(("image", "instances", "box (px)", "score", "lowest mask IoU", "differing cells"), rows)
    if checked.measured:
        scores = [(one.name, f"{one.box:.3f}", f"{one.mask:.3f}") for one in checked.measured]
        print_table(("", "box AP", "mask AP"), scores)
    if not any(one.counts[0] for one in checked.differences):
        say("note: the model finds nothing in these images; compare on images of your own with --check", err=True)
    say(f"{out}: written")

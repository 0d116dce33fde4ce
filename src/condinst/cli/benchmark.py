"""`condinst benchmark`: time the ways to run a model on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from condinst.cli.options import Json, Model, Size
from condinst.cli.terminal.say import say
from condinst.errors import one_line

if TYPE_CHECKING:
    from condinst.export.benchmark import Row


def benchmark(
    model: Model = "nuclei",
    image: Annotated[
        list[Path] | None,
        typer.Option(help="Image to time; repeat it for more. Default: three images of condinst."),
    ] = None,
    size: Size = None,
    rounds: Annotated[int, typer.Option(min=1, help="Number of measurements of each way; the table has medians.")] = 5,
    threads: Annotated[int | None, typer.Option(min=1, help="Number of threads. Default: one for each core.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Annotated images; the table then has the AP of each way on them.")
    ] = None,
    int8: Annotated[
        Path | None, typer.Option(metavar="DATA", help="Annotated images to calibrate a program in 8 bit with.")
    ] = None,
    json: Json = False,
) -> None:
    """Time a model in PyTorch, ONNX Runtime and OpenVINO, in 32, 16 and 8 bit, on this machine's CPU.

    Example: condinst benchmark --model nuclei --size 640
    """
    import torch

    from condinst.data.open import open_data
    from condinst.export.benchmark import benchmark as measure

    if threads is not None:
        torch.set_num_threads(threads)
    annotated = None if data is None else open_data(data, "val")
    rows = measure(model, image or (), size, rounds, annotated, int8, lambda text: say(one_line(text), err=True))
    _print(rows, torch.get_num_threads(), json)


def _print(rows: list[Row], threads: int, json: bool) -> None:
    from json import dumps
    from math import isnan

    from condinst.cli.terminal.output import print_table

    if json:
        named = [row._asdict() | {"megabytes": None if isnan(row.megabytes) else row.megabytes} for row in rows]
        typer.echo(dumps({"threads": threads, "ways": named}, allow_nan=False))
        return
    first = rows[0].total
    measured = rows[0].mask is not None
    head = ("", "MB", "prepare", "network", "masks", "total (ms)", "ratio", "instances")
    table = [
        (
            row.name,
            "" if isnan(row.megabytes) else f"{row.megabytes:.1f}",
            *(f"{stage:.1f}" for stage in row.stages),
            f"{row.total:.1f}",
            f"{row.total / first:.2f}",
            str(row.instances),
            *((f"{row.box:.3f}", f"{row.mask:.3f}") if measured else ()),
        )
        for row in rows
    ]
    print_table((*head, "box AP", "mask AP") if measured else head, table)
    say(f"{threads} threads; milliseconds for an image, medians; ratio to the first line")

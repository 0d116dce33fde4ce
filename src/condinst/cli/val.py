"""`condinst val`: the COCO numbers of a model on annotated images."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from condinst.cli.options import Device, Json, MaxSize, Model, ModeOption, NmsOption, Size, make_predictor

if TYPE_CHECKING:
    from condinst.engine.evaluate import Scores


def val(
    data: Annotated[
        Path, typer.Option(help="COCO annotation file; or a folder with val.json and images/; or COCO's own folder.")
    ],
    model: Model = "nuclei",
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images; default: images/ beside the annotations, or COCO's own.")
    ] = None,
    max_detections: Annotated[
        int,
        typer.Option(
            min=1, help="Instances kept and counted per image; COCO's standard is 100, dense images need more."
        ),
    ] = 100,
    size: Size = None,
    max_size: MaxSize = None,
    nms: NmsOption = None,
    device: Device = None,
    mode: ModeOption = None,
    json: Json = False,
) -> None:
    """Measure a model: the twelve COCO numbers for boxes and masks, per class and by object size."""
    from condinst.cli.datasets import locate
    from condinst.data.coco import read_coco
    from condinst.engine.evaluate import evaluate

    annotations, folder = locate(data, images, "val")
    predictor = make_predictor(model, device, size, max_size, max_detections, nms, mode=mode)
    scores = evaluate(read_coco(annotations, folder), predictor, max_detections, progress=show_progress())
    print_scores(scores, json)


def show_progress() -> Callable[[int, int], None] | None:
    """A counter on standard error, where that is a terminal."""
    if not sys.stderr.isatty():
        return None
    return lambda done, total: typer.echo(f"\rmeasured {done}/{total}" + "\n" * (done == total), nl=False, err=True)


def print_scores(scores: Scores, json: bool) -> None:
    """Everything as one JSON object, or tables and notes for people."""
    from dataclasses import asdict
    from json import dumps

    from condinst.cli.output import print_table

    for note in scores.notes:
        typer.echo(f"note: {note}", err=True)
    if json:
        typer.echo(dumps(scores.to_dict(), allow_nan=False))
        return
    both = zip(asdict(scores.bbox).items(), asdict(scores.segm).values(), strict=True)
    print_table(("", "boxes", "masks"), [(name, shown(box), shown(mask)) for (name, box), mask in both])
    if len(scores.segm_per_class) > 1:
        wanted = ("AP", "AP50", "AP75", "APs", "APm", "APl")
        rows = [
            (name, shown(scores.bbox_per_class[name].AP), *(shown(getattr(masks, part)) for part in wanted))
            for name, masks in scores.segm_per_class.items()
        ]
        print_table(("class", "box AP", *(f"mask {part}" for part in wanted)), rows)
    typer.echo(
        f"{scores.images} images, {scores.truths} annotated and {scores.detections} predicted instances, "
        f"at most {scores.max_detections} per image (AR is at this limit)"
    )


def shown(value: float) -> str:
    return "–" if value < 0 else f"{value:.3f}"  # COCO's −1: no truth of this kind

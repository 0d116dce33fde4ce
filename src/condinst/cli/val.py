"""`condinst val`: measure the COCO metrics of a model on annotated images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from condinst.cli.options import (
    Device,
    Json,
    MaxSize,
    Model,
    ModeOption,
    NmsOption,
    OverlapOption,
    RangeOption,
    Size,
    TileOption,
    make_predictor,
)
from condinst.cli.terminal.say import say
from condinst.ops.drawing.chart import shown

if TYPE_CHECKING:
    from condinst.data.sample import AnnotatedData
    from condinst.evaluation.analysis import Analysis
    from condinst.evaluation.evaluate import Scores
    from condinst.predictor import Predictor

WORST = 5  # pictures in the table


def val(
    data: Annotated[
        Path,
        typer.Option(
            help="Annotated images: a folder, or a COCO JSON, YOLO data.yaml or CVAT XML file. "
            "condinst measures the val part of a data set with several parts."
        ),
    ],
    model: Model = "nuclei",
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images. Default: the place that the format defines.")
    ] = None,
    max_detections: Annotated[
        int,
        typer.Option(min=1, help="Maximum number of detections per image. COCO uses 100; dense images need more."),
    ] = 100,
    size: Size = None,
    max_size: MaxSize = None,
    nms: NmsOption = None,
    device: Device = None,
    mode: ModeOption = None,
    range: RangeOption = None,
    tile: TileOption = None,
    overlap: OverlapOption = None,
    json: Json = False,
    analysis: Annotated[
        bool, typer.Option("--analysis", help="Add an analysis of the errors; with --json, under the key `analysis`.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Write the analysis and the worst pictures to an HTML page."),
    ] = None,
) -> None:
    """Measure a model: the twelve COCO metrics for boxes and masks, for each class and object size.

    Example: condinst val --data my_data --model runs/my_model
    """
    from condinst.cli.terminal.output import refuse_page, show_progress
    from condinst.data.open import open_data
    from condinst.evaluation.analysis import examine
    from condinst.evaluation.evaluate import evaluate

    if report is not None:
        refuse_page(report)
    annotated = open_data(data, "val", images)
    predictor = make_predictor(
        model, device, size, max_size, max_detections, nms, mode=mode, range=range, tile=tile, overlap=overlap
    )
    if report is not None:
        found = _write_page(report, model, annotated, predictor, max_detections)
        print_scores(*found, json=json)
    elif analysis:
        print_scores(*examine(annotated, predictor, max_detections, show_progress("measured")), json=json)
    else:
        print_scores(evaluate(annotated, predictor, max_detections, show_progress("measured")), json=json)


def _write_page(
    report: Path, model: str, data: AnnotatedData, predictor: Predictor, max_detections: int
) -> tuple[Scores, Analysis]:
    from condinst.cli.terminal.output import show_progress
    from condinst.evaluation.report import measure, write_report

    measured = measure(data, predictor, max_detections, show_progress("measured"))
    facts = {"Model": model, "Data": str(data.source), "Device": str(predictor.device)}
    write_report(report, f"{model} on {data.source.name}", predictor.config, measured, facts=facts)
    say(f"{report}: written", err=True)
    return measured.scores, measured.analysis


def print_scores(scores: Scores, analysis: Analysis | None = None, *, json: bool) -> None:
    """Print the scores as tables, or as one JSON object with the analysis under the key `analysis`."""
    from dataclasses import asdict
    from json import dumps

    from condinst.cli.terminal.output import print_table

    for note in scores.notes:
        say(f"note: {note}", err=True)
    if json:
        added = {} if analysis is None else {"analysis": analysis.to_dict()}
        typer.echo(dumps(scores.to_dict() | added, allow_nan=False))
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
    say(
        f"{scores.images} images, {scores.truths} annotated and {scores.detections} predicted instances, "
        f"at most {scores.max_detections} per image (AR is at this limit)"
    )
    if analysis is not None:
        _print_analysis(analysis)


def _print_analysis(analysis: Analysis) -> None:
    from condinst.cli.terminal.output import print_table

    what, best, boundary = "masks" if analysis.kind == "segm" else "boxes", analysis.best, analysis.boundary
    if best.f1:
        say(
            f"best F1 of {what} at IoU 0.5: {best.f1:.3f} with scores from {best.score:.2f} on "
            f"(precision {best.precision:.3f}, recall {best.recall:.3f})"
        )
    if boundary is not None:
        say(f"boundary AP {shown(boundary.AP)}, at IoU 0.5 {shown(boundary.AP50)}, at 0.75 {shown(boundary.AP75)}")
    say(f"calibration error {analysis.calibration.error:.3f}, in the worst bin {analysis.calibration.worst:.3f}")
    rows = [(name, str(cause.count), f"+{cause.gain:.3f}") for name, cause in analysis.causes.items()]
    print_table(("cause of errors", "errors", "AP50 gained if fixed"), rows)
    counts = [
        (Path(one.file).name, one.objects, one.predicted, one.matched50, f"{one.score:.3f}")
        for one in analysis.worst(WORST)
    ]
    names = ("worst pictures", "objects", "predicted", "right", "mean F1")
    print_table(names, [tuple(map(str, line)) for line in counts])

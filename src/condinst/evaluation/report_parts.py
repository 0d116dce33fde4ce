"""The measured parts of a report: tables, curves, bars and a confusion matrix, each with an explanation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from condinst.evaluation.analysis import Analysis, Calibration, Confusion
from condinst.evaluation.coco import CocoNumbers
from condinst.evaluation.evaluate import Scores
from condinst.ops.drawing.chart import Column, Line, Span, heat, plot, shown
from condinst.ops.drawing.page import Html, Part, bars, drawing, section, table

MOST_CURVES = 8  # classes with their own curve
MOST_CLASSES = 30  # classes in the confusion matrix
MOST_PAIRS = 12  # pairs of confused classes in the table
BACKGROUND = "background"

CAUSES = {
    "Cls": "wrong class, right location",
    "Loc": "right class, inexact location (IoU 0.1–0.5)",
    "Both": "wrong class and inexact location",
    "Dupe": "duplicate of an object that is already found",
    "Bkg": "no object there (IoU below 0.1)",
    "Miss": "missed objects",
}


def headline(scores: Scores, analysis: Analysis) -> Html:
    """The main metrics of boxes and masks."""
    rows = [
        ("AP (IoU 0.50–0.95)", shown(scores.bbox.AP), shown(scores.segm.AP)),
        ("AP50", shown(scores.bbox.AP50), shown(scores.segm.AP50)),
        ("AP75", shown(scores.bbox.AP75), shown(scores.segm.AP75)),
        ("boundary AP", "–", shown(-1 if analysis.boundary is None else analysis.boundary.AP)),
        (f"AR at {scores.max_detections}", shown(scores.bbox.AR), shown(scores.segm.AR)),
    ]
    counts = (
        f"{scores.images} pictures, {scores.truths} annotated and {scores.detections} predicted instances. At most "
        f"{scores.max_detections} predictions of each class count in a picture."
    )
    return section("Accuracy", [table(("", "boxes", "masks"), rows, 1), counts])


def score_tables(scores: Scores, analysis: Analysis) -> list[Part]:
    """AP and AR by size, and by class if there are several classes."""
    sizes = {"all": "", "small, below 32² px": "s", "medium, below 96² px": "m", "large": "l"}

    def cells(numbers: CocoNumbers, ending: str) -> tuple[str, str]:
        return shown(getattr(numbers, f"AP{ending}")), shown(getattr(numbers, f"AR{ending}"))

    rows = [(words, *cells(scores.bbox, ending), *cells(scores.segm, ending)) for words, ending in sizes.items()]
    parts: list[Part] = [
        section("By size", [table(("size by mask area", "box AP", "box AR", "mask AP", "mask AR"), rows, 1)])
    ]
    if len(analysis.per_class) > 1:
        parts.append(section("By class", [_class_table(scores, analysis)]))
    return parts


def analysis_parts(analysis: Analysis) -> list[Part]:
    """The sections on precision and recall, confusion, causes of errors and calibration."""
    return [
        section("Precision and recall", _curves(analysis)),
        section("Confusion", _confusion(analysis.confusion, tuple(analysis.per_class))),
        section("Causes of errors", _causes(analysis)),
        section("Calibration", _calibration(analysis.calibration)),
    ]


def _class_table(scores: Scores, analysis: Analysis) -> Html:
    names = ("objects", "box AP", "mask AP", "AP50", "AP75", "small", "medium", "large", "boundary AP")
    rows = []
    for name, counts in analysis.per_class.items():
        masks = scores.segm_per_class[name] if analysis.kind == "segm" else scores.bbox_per_class[name]
        parts = (scores.bbox_per_class[name].AP, scores.segm_per_class[name].AP, masks.AP50, masks.AP75)
        numbers = [shown(value) for value in (*parts, masks.APs, masks.APm, masks.APl, counts.boundary)]
        best = (f"{counts.best.score:.2f}", f"{counts.best.f1:.3f}") if counts.best.f1 else ("–", "–")
        rows.append((name, counts.truths, *numbers, *best))
    return table(("class", *names, "best score", "F1 there"), rows, 1)


def _curves(analysis: Analysis) -> list[Part]:
    what, best = "masks" if analysis.kind == "segm" else "boxes", analysis.best
    lines = [Line(f"IoU {curve.iou:.2f}", _points(curve.precision)) for curve in analysis.curves]
    if not best.f1:
        return [f"None of the predicted {what} is correct at IoU 0.5."]
    parts: list[Part] = [
        f"The best F1 of {what} at IoU 0.5 is {best.f1:.3f}, for predictions with scores from {best.score:.2f} on: "
        f"precision {best.precision:.3f}, recall {best.recall:.3f}. This score was chosen on the same pictures.",
        _plot_curves(f"Mean over the classes, {what}", lines),
    ]
    if len(analysis.per_class) > 1:
        most = sorted(analysis.per_class.items(), key=lambda item: -item[1].truths)[:MOST_CURVES]
        each = [Line(name, _points(counts.curve)) for name, counts in most if counts.truths]
        parts.append(_plot_curves(f"By class at IoU 0.50, {what}", each))
    return parts


def _points(precision: Sequence[float]) -> list[tuple[float, float]]:
    """The points (recall, precision) up to the highest recall that is reached, where the curve falls to 0."""
    reached = [(index / 100, value) for index, value in enumerate(precision) if value > 0]
    return [*reached, (reached[-1][0], 0.0)] if reached and reached[-1][0] < 1 else reached


def _plot_curves(title: str, lines: Sequence[Line]) -> Html:
    smooth = [line._replace(points=_dense(line.points)) for line in lines]
    return drawing(plot(title, "recall", "precision", smooth, x_span=Span(0, 1), y_span=Span(0, 1), paper=False))


def _dense(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The curve as steps: each precision holds from the previous recall to its own."""
    steps = [((x0, y1), (x1, y1)) for (x0, _), (x1, y1) in pairwise(points)]
    return [*points[:1], *(point for step in steps for point in step)]


def _confusion(confusion: Confusion, classes: Sequence[str]) -> list[Part]:
    names, matrix = [*classes, BACKGROUND], confusion.matrix
    sums = [sum(row) + sum(line[place] for line in matrix) for place, row in enumerate(matrix)]
    busiest = sorted(range(len(classes)), key=lambda place: -sums[place])[:MOST_CLASSES]
    kept = [place for place in sorted(busiest) if sums[place]] + [len(classes)]
    shares = [[matrix[row][column] / max(sum(matrix[row]), 1) for column in kept] for row in kept]
    words = [[str(matrix[row][column] or "") for column in kept] for row in kept]
    explained = (
        f"Each prediction with a score of at least {confusion.score:.2f} is paired with the object it overlaps most, "
        "if their IoU is at least 0.5. Rows are true classes, columns are predicted classes. The last column counts "
        "missed objects, the last row false predictions. A darker cell holds a larger share of its row."
    )
    parts: list[Part] = [
        explained,
        drawing(
            heat(
                "Objects by true and predicted class",
                "predicted",
                "true",
                [names[place] for place in kept],
                shares,
                words,
                paper=False,
            )
        ),
    ]
    if len(kept) <= len(classes):
        parts.append(
            f"The matrix shows the {len(kept) - 1} of {len(classes)} classes with the most objects and predictions."
        )
    pairs = sorted(
        (-count, classes[true], classes[predicted])
        for true, row in enumerate(matrix[:-1])
        for predicted, count in enumerate(row[:-1])
        if count and true != predicted
    )
    if pairs:
        rows = [(true, predicted, -count) for count, true, predicted in pairs[:MOST_PAIRS]]
        parts.append(table(("true class", "predicted as", "times"), rows, 2))
    return parts


def _causes(analysis: Analysis) -> list[Part]:
    rows = [(f"{name}: {CAUSES[name]}", cause.gain) for name, cause in analysis.causes.items()]
    words = [f"+{cause.gain:.3f} ({cause.count})" for cause in analysis.causes.values()]
    return [
        f"AP50 is {shown(analysis.AP50)}. Each bar shows how much it would rise if all errors of one cause were fixed "
        "and no others (TIDE). The number of errors, of any score, is in brackets.",
        bars(rows, words),
    ]


def _calibration(calibration: Calibration) -> list[Part]:
    columns = [Column(one.low, one.high, one.right) for one in calibration.bins if one.count]
    lines = [Line("score = share correct", [(0, 0), (1, 1)], dashed=True)]
    chart = plot(
        "Reliability",
        "score",
        "share of correct predictions",
        lines,
        columns,
        Span(0, 1),
        Span(0, 1),
        paper=False,
    )
    rows = [
        (
            f"{one.low:.1f}–{one.high:.1f}",
            one.count,
            *(shown(part if one.count else -1) for part in (one.score, one.right)),
        )
        for one in calibration.bins
    ]
    return [
        f"The mean distance between score and share of correct predictions (ECE) is {calibration.error:.3f}, and "
        f"{calibration.worst:.3f} in the worst bin. Above the line, scores are too low; below it, they are too high.",
        drawing(chart),
        table(("score", "predictions", "mean score", "share correct"), rows, 1),
    ]

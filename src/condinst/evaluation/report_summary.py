"""The first lines of a report: the model and its main metrics."""

from __future__ import annotations

from condinst.config import Config
from condinst.errors import some
from condinst.evaluation.analysis import Analysis
from condinst.evaluation.evaluate import Scores
from condinst.ops.drawing.chart import shown
from condinst.ops.drawing.page import Part, cards
from condinst.settings.methods import TITLES

MOST_NAMES = 10  # class names in the sentence


def describe_model(config: Config) -> str:
    """Two sentences about the backbone, the classes and the input size."""
    model, size = config.model, config.input
    classes = f"{len(model.classes)} class{'' if len(model.classes) == 1 else 'es'}"
    names = some(list(model.classes), MOST_NAMES)
    if size.stretch:
        resized = f"{size.longer}×{size.longer} pixels"
    else:
        resized = f"a shorter side of {size.shorter} pixels and a longer side of at most {size.longer}"
    return (
        f"{TITLES[model.method]} with backbone {model.backbone.name}, {classes} ({names}). Pictures are resized to "
        f"{resized}."
    )


def summary(scores: Scores, analysis: Analysis) -> list[Part]:
    """Average precision, recall and precision as cards, and a line about the data."""
    masks = analysis.kind == "segm"
    what, numbers = ("mask", scores.segm) if masks else ("box", scores.bbox)
    best = analysis.best
    rows = [(shown(numbers.AP), f"{what} AP", "COCO average precision, IoU 0.50–0.95; 1 is perfect")]
    if masks:
        rows.append((shown(scores.bbox.AP), "box AP", "the same for boxes"))
    if best.f1:
        threshold = f"at IoU 0.5, with scores from {best.score:.2f} on"
        rows.append((f"{best.recall:.0%}", "of the objects are found", f"recall {threshold}"))
        rows.append((f"{best.precision:.0%}", "of the predictions are right", f"precision {threshold}"))
    measured = f"Measured on {scores.images} pictures with {scores.truths} annotated objects."
    return [cards(rows), measured + (" The score threshold was chosen on these pictures." if best.f1 else "")]

"""Markdown tables of COCO numbers, one way for model cards and docs/explanation/accuracy.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.cards.card import Card, Fit
from benchmarks.markdown import number, table
from condinst.evaluation.coco import CocoNumbers
from condinst.evaluation.evaluate import Scores
from condinst.evaluation.judge import Kind

NUMBERS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR")
WHO_MODEL, WHO_RIVAL, WHO_TRUTH = "CondInst", "Mask R-CNN", "the truth itself"
SAME_BUDGET = "{}, {:,} images seen"


def score_table(card: Card, kind: Kind) -> str:
    """Model, rival and ceiling at every detection limit."""
    rows = [
        (who, str(limit), *(number(getattr(_pick(scores, kind), name)) for name in NUMBERS))
        for limit in sorted(card.scores)
        for who, scores in _measured(card, limit)
    ]
    return table(("", "limit", *NUMBERS), rows)


def class_table(card: Card) -> str:
    """Each class at the highest limit."""
    scores = card.scores[max(card.scores)]
    rows = [
        (name, number(scores.bbox_per_class[name].AP), *(number(getattr(masks, part)) for part in NUMBERS))
        for name, masks in scores.segm_per_class.items()
    ]
    return table(("class", "box AP", *(f"mask {name}" for name in NUMBERS)), rows)


def fit_table(fits: Sequence[Fit]) -> str:
    """Single pictures with their counts."""
    rows = [
        (
            f"`{short(fit.file)}`",
            str(fit.objects),
            str(fit.predicted),
            str(fit.objects - fit.matched50),
            str(fit.predicted - fit.matched50),
            *(number(value) for value in fit.f1),
        )
        for fit in fits
    ]
    return table(("picture", "objects", "predicted", "missed", "false", "F1 at IoU 0.5", "F1 at 0.75"), rows)


def short(file: str) -> str:
    """A file's name without its ending, cut where it is long; scores.json has it whole."""
    stem = Path(file).stem
    return stem if len(stem) <= 32 else f"{stem[:31]}…"


def difference(card: Card, limit: int, kind: Kind) -> float | None:
    """AP of CondInst less that of the rival, both of the same budget; None without a rival at this limit."""
    if card.rival is None or limit not in card.rival.scores:
        return None
    return _pick(card.rival.condinst[limit], kind).AP - _pick(card.rival.scores[limit], kind).AP


def _pick(scores: Scores, kind: Kind) -> CocoNumbers:
    return scores.bbox if kind == "bbox" else scores.segm


def _measured(card: Card, limit: int) -> list[tuple[str, Scores]]:
    found = [(WHO_MODEL, card.scores[limit])]
    if card.rival is not None and limit in card.rival.scores:
        for who, scores in ((WHO_MODEL, card.rival.condinst), (WHO_RIVAL, card.rival.scores)):
            found.append((SAME_BUDGET.format(who, card.rival.images_seen), scores[limit]))
    return [*found, (WHO_TRUTH, card.ceiling[limit])]

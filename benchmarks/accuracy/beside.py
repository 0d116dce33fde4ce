"""The tables of docs/explanation/accuracy.md that compare trainings: with Mask R-CNN, and with fewer masks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean

from benchmarks.cards.card import Rival
from benchmarks.facts import Facts, read_facts
from benchmarks.markdown import minutes, number, table
from condinst.evaluation.evaluate import Scores
from condinst.evaluation.judge import Kind

PAIRS = "beside"  # folder of benchmarks/results: a file of mask_rcnn.py for each data set and seed
SUPERVISION = "supervision.json"


class SupervisionRun(Facts):
    """One training of benchmarks/accuracy/supervision.py.

    masks: training objects with a mask. boxes: training objects with a box alone.
    """

    masks: int
    boxes: int
    seconds: float
    scores: dict[int, Scores]


class Supervision(Facts):
    """What benchmarks/accuracy/supervision.py writes. runs: by name."""

    recipe: str
    command: str
    images_seen: int
    runs: dict[str, SupervisionRun]


def read_pairs(results: Path) -> dict[tuple[str, int], list[Rival]]:
    """By data set and number of images seen, the seeds in order."""
    pairs: dict[tuple[str, int], list[Rival]] = defaultdict(list)
    for path in sorted((results / PAIRS).glob("*.json")):
        rival = read_facts(path, Rival)
        pairs[rival.data, rival.images_seen].append(rival)
    return {kind: sorted(runs, key=lambda run: run.seed) for kind, runs in sorted(pairs.items())}


def pair_table(pairs: dict[tuple[str, int], list[Rival]]) -> str:
    """CondInst and Mask R-CNN at each detection limit, means over the seeds."""
    if not pairs:
        return "*Mask R-CNN is not measured yet.*"
    rows = [
        row
        for (data, _), runs in pairs.items()
        for limit in sorted(runs[0].scores)
        for row in _pair_rows(data, runs, limit)
    ]
    head = ("data", "seeds", "limit", "budget", "mask AP", "mask AP50", "box AP", "gain in mask AP", "training")
    commands = "\n".join(run.command for runs in pairs.values() for run in runs)
    words = (
        "In each pair CondInst stands first, Mask R-CNN second; each is the mean over the seeds. The gain is that of "
        "the means, and in brackets that of each seed. The budget is the same number of images, or the same CPU time, "
        "where it may be fewer seeds."
    )
    return "\n\n".join(
        [words, table(head, rows), f"<!-- not run: needs the whole data sets -->\n```sh\n{commands}\n```"]
    )


def _pair_rows(data: str, runs: Sequence[Rival], limit: int) -> list[tuple[str, ...]]:
    """Equal images, then equal time over the seeds where that was measured."""
    images = f"{runs[0].images_seen:,}"
    rows = [
        _pair_row(data, f"{images} images", [(run, run.condinst[limit], run.condinst_seconds) for run in runs], limit)
    ]
    timed = [(run, run.same_time) for run in runs if run.same_time is not None]
    if timed:
        batch = runs[0].images_seen // runs[0].iterations
        more = round(mean(own.iterations for _, own in timed)) * batch
        words = f"the same time: {more:,} / {images} images"
        rows.append(_pair_row(data, words, [(run, own.scores[limit], own.seconds) for run, own in timed], limit))
    return rows


def _pair_row(data: str, budget: str, runs: Sequence[tuple[Rival, Scores, float]], limit: int) -> tuple[str, ...]:
    """runs: the rival's, and CondInst's scores and seconds beside it."""
    others, own, seconds = zip(*runs, strict=True)
    times = (mean(seconds), mean(run.training_seconds for run in others))
    scores = [run.scores[limit] for run in others]
    return (data, str(len(runs)), str(limit), budget, *_compare(own, scores), _times(*times))


def _compare(own: Sequence[Scores], other: Sequence[Scores]) -> tuple[str, ...]:
    def both(value: Callable[[Scores], float]) -> str:
        return " / ".join(number(mean(value(scores) for scores in side)) for side in (own, other))

    gains = [mine.segm.AP - theirs.segm.AP for mine, theirs in zip(own, other, strict=True)]
    each = f" ({', '.join(f'{gain:+.3f}' for gain in gains)})" if len(gains) > 1 else ""
    return (
        both(lambda scores: scores.segm.AP),
        both(lambda scores: scores.segm.AP50),
        both(lambda scores: scores.bbox.AP),
        f"{mean(gains):+.3f}{each}",
    )


def _times(own: float, other: float) -> str:
    return " / ".join(minutes(seconds / 60) for seconds in (own, other))


def supervision_table(results: Path) -> str:
    """Masks, some masks, boxes alone: one row each."""
    path = results / SUPERVISION
    if not path.exists():
        return "*Not measured yet.*"
    found = read_facts(path, Supervision)
    rows = [
        (name, f"{run.masks:,}", f"{run.boxes:,}", str(limit), *_numbers(scores), minutes(run.seconds / 60))
        for name, run in found.runs.items()
        for limit, scores in sorted(run.scores.items())
    ]
    head = (f"`{found.recipe}`", "with mask", "box alone", "limit", "mask AP", "AP50", "AP75", "box AP", "training")
    words = f"{found.images_seen:,} images seen in each; measured on the held-out masks."
    return "\n\n".join(
        [words, table(head, rows), f"<!-- not run: needs the whole data sets -->\n```sh\n{found.command}\n```"]
    )


def _numbers(scores: Scores) -> tuple[str, ...]:
    kinds: tuple[tuple[Kind, str], ...] = (("segm", "AP"), ("segm", "AP50"), ("segm", "AP75"), ("bbox", "AP"))
    return tuple(number(getattr(getattr(scores, kind), part)) for kind, part in kinds)

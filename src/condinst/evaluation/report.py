"""One self-contained HTML file about a model on held-out pictures, and about the run that trained it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from condinst.config import Config
from condinst.data.sample import AnnotatedData
from condinst.errors import CondinstError
from condinst.evaluation.analysis import Analysis, examine
from condinst.evaluation.cases import Case, describe, draw_panels, predict_case
from condinst.evaluation.evaluate import Predicts, Progress, Scores
from condinst.evaluation.report_parts import analysis_parts, headline, score_tables
from condinst.files import replace_file
from condinst.ops.drawing.page import Html, Part, page, picture, section, table
from condinst.ops.drawing.sheet import to_jpeg

WORST = 8  # pictures shown
PANEL, LARGEST_JPEG = 520, 110_000  # pixels of a panel's longer side, bytes of each: all together stay below 4 MB
SIDE_BY_SIDE = "display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: 1rem"

KEY_SETTINGS = (
    "model.backbone.name",
    "model.pyramid",
    "input.shorter",
    "input.longer",
    "detect.nms",
)
TRAINING_SETTINGS = (
    "train.iterations",
    "train.batch_size",
    "train.optimizer",
    "train.lr",
    "train.schedule",
    "train.precision",
    "train.ema_decay",
    "train.seed",
    "targets.supervision",
)


class Measured(NamedTuple):
    """What was found on held-out pictures. worst: those that came out worst."""

    scores: Scores
    analysis: Analysis
    worst: tuple[Case, ...]


def measure(
    data: AnnotatedData, predictor: Predicts, max_detections: int = 100, progress: Progress | None = None
) -> Measured:
    """Evaluate and analyse `data`, which the model must not have been trained on; see `examine` for what it raises.

    The worst pictures are predicted once more: what was seen of the others is not kept.
    """
    scores, analysis = examine(data, predictor, max_detections, progress)
    samples = {str(sample.path): sample for sample in data.samples}
    score = analysis.confusion.score
    worst = (predict_case(samples[fit.file], predictor, data, score, max_detections) for fit in analysis.worst(WORST))
    return Measured(scores, analysis, tuple(worst))


def write_report(
    path: Path,
    title: str,
    config: Config,
    measured: Measured | None = None,
    training: Sequence[Part] | None = None,
    facts: Mapping[str, str] | None = None,
) -> None:
    """Write the page to `path`, whole or not at all; raises CondinstError if it cannot be written.

    measured: None where there are no held-out pictures; the page then says so. training: the
    curves of the run, if the page is about one. facts: what else a reader should know, by name: the model, the data.
    """
    parts: list[Part] = [". ".join(f"{name}: {value}" for name, value in facts.items()) + "."] if facts else []
    if measured is None:
        parts.append("No validation data was given, so nothing was measured: training pictures do not tell accuracy.")
    else:
        parts += [headline(measured.scores, measured.analysis), *(f"Note: {note}." for note in measured.scores.notes)]
    parts.append(
        section("Settings", [table(("setting", "value"), _key_settings(config, training is not None)), _whole(config)])
    )
    if training:
        parts.append(section("Training", training))
    if measured is not None:
        parts += [*score_tables(measured.scores, measured.analysis), *analysis_parts(measured.analysis)]
        parts.append(section("Worst pictures", _worst(measured)))
    try:
        replace_file(path, page(title, parts).encode())
    except OSError as error:
        raise CondinstError(f"{path}: cannot be written ({error.strerror or error}); choose another place") from None


def _key_settings(config: Config, training: bool) -> list[tuple[str, str]]:
    rows = []
    for key in (*KEY_SETTINGS, *(TRAINING_SETTINGS if training else ())):
        value: object = config
        for name in key.split("."):
            value = getattr(value, name)
        rows.append((key, str(value)))
    return rows


def _whole(config: Config) -> Html:
    return Html(f"<details><summary>All settings</summary><pre>{escape(config.to_yaml())}</pre></details>")


def _worst(measured: Measured) -> Sequence[Part]:
    if not measured.worst:
        return ["No picture has an error."]
    score = measured.analysis.confusion.score
    words = (
        f"By the mean of their F1 at IoU 0.5 and 0.75, predictions with scores from {score:.2f} on. Missed objects and "
        "false predictions are red; an object and the prediction that found it share a colour."
    )
    return [words, *(_show(case) for case in measured.worst)]


def _show(case: Case) -> Html:
    panels = zip(draw_panels(case, PANEL), describe(case), strict=True)
    figures = [picture(to_jpeg(panel, LARGEST_JPEG), words, words) for panel, words in panels]
    return section(case.path.name, [Html(f'<div style="{SIDE_BY_SIDE}">{"".join(figures)}</div>')], level=3)

"""The report: one HTML file about a model on held-out pictures and about its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from condinst.config import Config
from condinst.data.sample import AnnotatedData
from condinst.errors import CondinstError
from condinst.evaluation.analysis import Analysis, Fit, examine
from condinst.evaluation.cases import Case, describe, draw_panels, predict_case
from condinst.evaluation.evaluate import Predicts, Progress, Scores
from condinst.evaluation.report_parts import analysis_parts, headline, score_tables
from condinst.evaluation.report_summary import describe_model, summary
from condinst.files import replace_file
from condinst.ops.drawing.page import Html, Part, columns, page, picture, section, small_pictures, table
from condinst.ops.drawing.sheet import to_jpeg

WORST = 8  # pictures shown in detail
SHOWN = 3  # number of the worst and of the best pictures on the first screen
SMALL, SMALL_JPEG = 300, 40_000  # size of these pictures in pixels and in bytes
PANEL, LARGEST_JPEG = 520, 110_000  # longer side of a panel in pixels, largest size in bytes; all stay below 4 MB
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
    """The scores and the analysis on held-out pictures. worst, best: single pictures, the worst or best first."""

    scores: Scores
    analysis: Analysis
    worst: tuple[Case, ...]
    best: tuple[Case, ...] = ()


def measure(
    data: AnnotatedData, predictor: Predicts, max_detections: int = 100, progress: Progress | None = None
) -> Measured:
    """Evaluate and analyse a model on `data`. Do not use its training pictures. Raises the errors of `examine`.

    The worst and the best pictures are predicted a second time, because `examine` keeps no masks.
    """
    scores, analysis = examine(data, predictor, max_detections, progress)
    samples = {str(sample.path): sample for sample in data.samples}
    worst = analysis.worst(WORST)
    pictures = len(data.samples)
    best = analysis.best_pictures(min(SHOWN, max(pictures // 2, pictures - len(worst))))
    score = analysis.confusion.score

    def cases(fits: Sequence[Fit]) -> tuple[Case, ...]:
        return tuple(predict_case(samples[fit.file], predictor, data, score, max_detections) for fit in fits)

    return Measured(scores, analysis, cases(worst), cases(best))


def write_report(
    path: Path,
    title: str,
    config: Config,
    measured: Measured | None = None,
    training: Sequence[Part] | None = None,
    facts: Mapping[str, str] | None = None,
) -> None:
    """Write the page to `path`, completely or not at all. Raises CondinstError if the file cannot be written.

    The page begins with the model, the data, the numbers that matter and the worst and best pictures. Curves and
    tables follow. The settings come last. measured: None without held-out pictures; the page then says so.
    training: curves and pictures of a run. facts: further facts by name, such as the data set.
    """
    parts: list[Part] = [describe_model(config)]
    parts += [". ".join(f"{name}: {value}" for name, value in facts.items()) + "."] if facts else []
    if measured is None:
        parts.append("No validation data was given, so nothing was measured. Training pictures give no reliable score.")
    else:
        parts += [*summary(measured.scores, measured.analysis), _worst_and_best(measured)]
        parts += [f"Note: {note}." for note in measured.scores.notes]
    if training:
        parts.append(section("Training", training))
    if measured is not None:
        parts += [headline(measured.scores, measured.analysis), *score_tables(measured.scores, measured.analysis)]
        parts += [*analysis_parts(measured.analysis), section("Worst pictures in detail", _worst(measured))]
    settings = table(("setting", "value"), _key_settings(config, training is not None))
    parts.append(section("Settings", [settings, _whole(config)]))
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


def _worst_and_best(measured: Measured) -> Html:
    """A few of the worst and of the best pictures with their predictions, side by side."""
    among_best = {case.path for case in measured.best}  # of few pictures, one may be among both
    worst = [case for case in measured.worst if case.path not in among_best][:SHOWN]
    sides = []
    for title, cases in (("Worst pictures", worst), ("Best pictures", measured.best)):
        figures = [_thumbnail(case) for case in cases]
        sides.append(section(title, [small_pictures(figures)] if figures else ["None."]))
    return columns(sides)


def _thumbnail(case: Case) -> Html:
    fit = case.fit
    caption = f"{case.path.name}: {fit.matched50} of {fit.objects} objects found, {fit.predicted - fit.matched50} false"
    return picture(to_jpeg(draw_panels(case, SMALL)[2], SMALL_JPEG), caption, caption)


def _worst(measured: Measured) -> Sequence[Part]:
    if not measured.worst:
        return ["No picture has an error."]
    score = measured.analysis.confusion.score
    words = (
        f"The pictures with the lowest mean of F1 at IoU 0.5 and at IoU 0.75, for predictions with a score of at least "
        f"{score:.2f}. Missed objects and false predictions are red. An object and the prediction that found it have "
        "the same colour."
    )
    return [words, *(_show(case) for case in measured.worst)]


def _show(case: Case) -> Html:
    panels = zip(draw_panels(case, PANEL), describe(case), strict=True)
    figures = [picture(to_jpeg(panel, LARGEST_JPEG), words, words) for panel, words in panels]
    return section(case.path.name, [Html(f'<div style="{SIDE_BY_SIDE}">{"".join(figures)}</div>')], level=3)

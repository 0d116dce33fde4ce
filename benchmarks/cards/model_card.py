"""Ship a trained model: measure it on held-out images and write its folder, card and pictures.

    python -m benchmarks.cards.model_card nuclei --data datasets/nuclei --run runs/nuclei --limits 100,500 \
        --rival runs/nuclei-mask-rcnn/scores.json --hardware "2 CPU cores"

Writes src/condinst/zoo/NAME/{config.yaml, model.safetensors, README.md, scores.json} and docs/images/NAME*.
`--keep-scores` writes the card and the pictures again without measuring, for example once the rival is trained.
Then `python -m benchmarks.accuracy.results` brings the tables of docs/explanation/accuracy.md up to date.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from benchmarks.cards.card import Card, Rival, describe_data, describe_training, portable
from benchmarks.cards.ceiling import TruthPredictor
from benchmarks.cards.pictures import choose, draw_case, draw_cover, rank
from benchmarks.cards.text import ap_words, data_licence, use_of, write_card
from benchmarks.facts import ROOT, read_facts, run_command
from condinst.config import Config
from condinst.data.formats.coco.read import read_coco
from condinst.data.sample import AnnotatedData
from condinst.engine.planning.statistics import measure_seen
from condinst.errors import DataError, UsageError
from condinst.evaluation.analysis import Fit
from condinst.evaluation.cases import make_case
from condinst.evaluation.evaluate import Scores, evaluate
from condinst.files import replace_file
from condinst.inference.result import Result
from condinst.model.condinst import CondInst
from condinst.predictor import Predictor
from condinst.settings.prediction import SHOWN_SCORE
from condinst.weights.folder import load_model, save_model
from condinst.weights.names import CONFIG_FILE, WEIGHTS_FILE


class Remembering:
    """A predictor that keeps what it answered, so that the pictures show what was measured."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor, self.config, self.names = predictor, predictor.config, predictor.names
        self.results: dict[Path, Result] = {}

    def __call__(self, source: Path) -> Result:
        self.results[source] = self.predictor(source)
        return self.results[source]


class Measured(NamedTuple):
    """What evaluation found. fits: the held-out pictures with objects, best first."""

    file_bytes: int
    scores: dict[int, Scores]  # by detection limit, as the next
    ceiling: dict[int, Scores]
    conf: float
    fits: tuple[Fit, ...]


def main(
    name: str,
    data: Annotated[Path, typer.Option(help="Folder with train.json, val.json, images/ and LICENSE.txt.")],
    run: Annotated[Path, typer.Option(help="Folder that `condinst train` wrote.")],
    limits: Annotated[str, typer.Option(help="Detections per image, the standard and the raised limit.")] = "100,500",
    rival: Annotated[Path | None, typer.Option(help="scores.json of benchmarks/accuracy/mask_rcnn.py.")] = None,
    rival_command: Annotated[str, typer.Option(help="What trained the rival.")] = "not recorded",
    recipe: Annotated[str | None, typer.Option(help="Name of the recipe; default: NAME.")] = None,
    train_command: Annotated[str | None, typer.Option(help="Default: about.command of the run's settings.")] = None,
    hardware: Annotated[str, typer.Option(help="What the training ran on.")] = "not recorded",
    minutes: Annotated[float | None, typer.Option(help="Training time; default: what log.csv adds up to.")] = None,
    remark: Annotated[list[str] | None, typer.Option(help="A sentence beneath the tables; may be repeated.")] = None,
    conf: Annotated[float, typer.Option(help="Score from which on predictions count and are drawn.")] = SHOWN_SCORE,
    keep_scores: Annotated[
        bool, typer.Option("--keep-scores", help="Measure nothing: write anew from the scores.json that is there.")
    ] = False,
    root: Annotated[Path, typer.Option(help="Where src/ and docs/ are written.")] = ROOT,
) -> None:
    """Measure the model in RUN and write the shipped folder, the card and the pictures."""
    model, config = load_model(run)
    config = with_seen(config, data)
    training = describe_training(run, config, recipe or name, train_command, hardware, minutes)
    beside = None if rival is None else read_facts(rival, Rival)
    facts, held_out = describe_data(data, ROOT)
    use, target = use_of(name), root / "src" / "condinst" / "zoo" / name
    with tempfile.TemporaryDirectory() as folder:  # what is measured is what is shipped: the half-precision file
        half = Path(folder)
        save_model(model, config, half, half=True)
        wanted = read_limits(limits)
        measured = recall(half, target, wanted, conf) if keep_scores else measure(half, held_out, wanted, conf)
        shown = write_pictures(name, half, measured, held_out, root / "docs" / "images")
    card = Card(
        name=name,
        classes=config.model.classes,
        segments=use.segments,
        limits_of_use=use.limits,
        data=facts,
        training=training,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        file_bytes=measured.file_bytes,
        scores=measured.scores,
        ceiling=measured.ceiling,
        rival=beside,
        rival_command=rival_command,
        conf=measured.conf,
        fits=measured.fits,
        shown=shown,
        remarks=tuple(remark or ()),
    )
    write_model(card, model, config, target)


def measure(model: Path, held_out: AnnotatedData, limits: list[int], conf: float) -> Measured:
    """Everything the card says about accuracy, as `condinst val --max-detections` measures it."""
    scores = {}
    for limit in limits:
        predictor = Remembering(Predictor(model, conf=None, max_detections=limit))
        scores[limit] = evaluate(held_out, predictor, limit)
    results = predictor.results  # at the highest limit
    fits = [
        make_case(sample, (found := results[sample.path])[found.boxes.conf >= conf]).fit for sample in held_out.samples
    ]
    ceiling = {limit: best_possible(held_out, limit) for limit in limits}
    return Measured((model / WEIGHTS_FILE).stat().st_size, scores, ceiling, conf, tuple(rank(fits)))


def recall(model: Path, shipped: Path, limits: list[int], conf: float) -> Measured:
    """What was measured before; raises DataError if it was not these weights or not with these settings."""
    card = read_facts(shipped / "scores.json", Card)
    same = (model / WEIGHTS_FILE).read_bytes() == (shipped / WEIGHTS_FILE).read_bytes()
    ours, theirs = (Config.from_yaml(folder / CONFIG_FILE) for folder in (model, shipped))
    same &= all(getattr(ours, part) == getattr(theirs, part) for part in ("model", "detect"))
    same &= ours.input.model_copy(update={"seen": None}) == theirs.input.model_copy(update={"seen": None})
    if not same or limits != sorted(card.scores) or conf != card.conf:
        raise DataError(f"{shipped}: its scores are of another model, limit or --conf; leave out --keep-scores")
    return Measured(card.file_bytes, card.scores, card.ceiling, card.conf, card.fits)


def write_pictures(name: str, model: Path, measured: Measured, held_out: AnnotatedData, folder: Path) -> dict[str, str]:
    """Choose and draw; returns the data set's file for each picture."""
    samples = {sample.path.name: sample for sample in held_out.samples}
    choice = choose(measured.fits, held_out.samples[0].path.parent)
    predictor = Predictor(model, conf=measured.conf, max_detections=max(measured.scores))
    kinds = (("success", choice.successes), ("failure", choice.failures))
    shown = {f"{name}-{kind}-{place}.jpg": file for kind, files in kinds for place, file in enumerate(files, start=1)}
    cases = {file: make_case(samples[file], predictor(samples[file].path)) for file in shown.values()}
    for picture, file in shown.items():
        replace_file(folder / picture, draw_case(cases[file]))
    if choice.successes:
        replace_file(folder / f"{name}.jpg", draw_cover([cases[file] for file in choice.successes]))
    return shown


def write_model(card: Card, model: CondInst, config: Config, folder: Path) -> None:
    """The shipped folder: weights, settings, card and scores."""
    save_model(model, shipped_config(config, card), folder, half=True)
    replace_file(folder / "scores.json", (card.model_dump_json(indent=1) + "\n").encode())
    replace_file(folder / "README.md", write_card(card).encode())
    print(f"{folder}: box AP {ap_words(card, 'bbox')}; mask AP {ap_words(card, 'segm')}")


def read_limits(text: str) -> list[int]:
    """'100,500' → [100, 500]; raises UsageError."""
    try:
        limits = sorted({int(part) for part in text.split(",")})
    except ValueError:
        limits = [0]
    if limits[0] < 1:
        raise UsageError(f"--limits '{text}': expected positive whole numbers, for example 100,500")
    return limits


def best_possible(held_out: AnnotatedData, limit: int) -> Scores:
    """What the annotations themselves score when only `limit` of them count per class and image."""
    most = max([limit, *(len(sample.instances) for sample in held_out.samples)])
    return evaluate(held_out, TruthPredictor(held_out, most), limit)


def shipped_config(config: Config, card: Card) -> Config:
    """The run's settings without this machine's paths, and with what `condinst models` shows."""
    about = config.about | {
        "licence": data_licence(card),
        "box AP": ap_words(card, "bbox"),
        "mask AP": ap_words(card, "segm"),
        "data": config.about.get("data", f"{card.data.title}, {card.data.licence}"),
        "command": card.training.command,
    }
    train = config.train.model_copy(update={"init": portable(config.train.init, ROOT)})
    return config.model_copy(update={"about": about, "train": train})


def with_seen(config: Config, data: Path) -> Config:
    """The settings with what the training pictures looked like, where the run did not measure it."""
    if config.input.seen is not None:
        return config
    seen = measure_seen(read_coco(data / "train.json", data / "images"), config.input)
    return config.model_copy(update={"input": config.input.model_copy(update={"seen": seen})})


if __name__ == "__main__":
    run_command(main)

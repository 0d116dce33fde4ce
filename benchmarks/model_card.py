"""Ship a trained model: measure it on held-out images and write its folder, card and pictures.

    python benchmarks/model_card.py nuclei --data ../shared/data/nuclei --run runs/nuclei --limits 100,500 \
        --rival runs/nuclei-mask-rcnn/scores.json --hardware "2 CPU cores"

Writes src/condinst/zoo/NAME/{config.yaml, model.safetensors, README.md, scores.json} and docs/images/NAME*.
Then `python benchmarks/results.py` brings the tables of docs/results.md up to date.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from card import Card, DataFacts, Rival, describe_data, describe_training, portable, read_facts, replace_file
from card_pictures import Case, Choice, choose, draw_case, draw_cover, judge, rank
from card_text import ap_words, data_licence, use_of, write_card
from matching import TruthPredictor

from condinst.config import Config
from condinst.data.coco import CocoData
from condinst.engine.evaluate import Scores, evaluate
from condinst.errors import CondinstError, UsageError
from condinst.inference.result import Result
from condinst.model.condinst import CondInst
from condinst.predictor import Predictor
from condinst.weights.folder import load_model, save_model
from condinst.weights.names import WEIGHTS_FILE

ROOT = Path(__file__).parent.parent


class Remembering:
    """A predictor that keeps what it answered, so that the pictures show what was measured."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor, self.config, self.names = predictor, predictor.config, predictor.names
        self.results: dict[Path, Result] = {}

    def __call__(self, source: Path) -> Result:
        self.results[source] = self.predictor(source)
        return self.results[source]


class Measured(NamedTuple):
    """What evaluation found. ranked: the held-out pictures with objects, best first."""

    data: DataFacts
    file_bytes: int
    scores: dict[int, Scores]  # by detection limit, as the next
    ceiling: dict[int, Scores]
    ranked: list[Case]


def main(
    name: str,
    data: Annotated[Path, typer.Option(help="Folder with train.json, val.json, images/ and LICENSE.txt.")],
    run: Annotated[Path, typer.Option(help="Folder that `condinst train` wrote.")],
    limits: Annotated[str, typer.Option(help="Detections per image, the standard and the raised limit.")] = "100,500",
    rival: Annotated[Path | None, typer.Option(help="scores.json of benchmarks/mask_rcnn.py.")] = None,
    rival_command: Annotated[str, typer.Option(help="What trained the rival.")] = "not recorded",
    recipe: Annotated[str | None, typer.Option(help="Name of the recipe; default: NAME.")] = None,
    train_command: Annotated[str | None, typer.Option(help="Default: about.command of the run's settings.")] = None,
    hardware: Annotated[str, typer.Option(help="What the training ran on.")] = "not recorded",
    minutes: Annotated[float | None, typer.Option(help="Training time; default: what log.csv adds up to.")] = None,
    remark: Annotated[list[str] | None, typer.Option(help="A sentence beneath the tables; may be repeated.")] = None,
    conf: Annotated[float, typer.Option(help="Score from which on predictions count and show in pictures.")] = 0.4,
    root: Annotated[Path, typer.Option(help="Where src/ and docs/ are written.")] = ROOT,
) -> None:
    """Measure the model in RUN and write the shipped folder, the card and the pictures."""
    model, config = load_model(run)
    training = describe_training(run, config, recipe or name, train_command, hardware, minutes)
    beside = None if rival is None else read_facts(rival, Rival)
    measured = measure(model, config, data, read_limits(limits), conf)
    use = use_of(name)
    card = Card(
        name=name,
        classes=config.model.classes,
        segments=use.segments,
        limits_of_use=use.limits,
        data=measured.data,
        training=training,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        file_bytes=measured.file_bytes,
        scores=measured.scores,
        ceiling=measured.ceiling,
        rival=beside,
        rival_command=rival_command,
        conf=conf,
        fits=tuple(case.fit for case in measured.ranked),
        shown={},
        remarks=tuple(remark or ()),
    )
    card = write_pictures(card, choose(measured.ranked), root / "docs" / "images")
    write_model(card, model, config, root / "src" / "condinst" / "zoo" / name)


def measure(model: CondInst, config: Config, data: Path, limits: list[int], conf: float) -> Measured:
    """Everything the card says about accuracy. What is measured is what is shipped: the half-precision file."""
    facts, held_out = describe_data(data, ROOT)
    with tempfile.TemporaryDirectory() as folder:
        save_model(model, config, Path(folder), half=True)
        size = (Path(folder) / WEIGHTS_FILE).stat().st_size
        scores = {}
        for limit in limits:  # as `condinst val --max-detections` does
            predictor = Remembering(Predictor(folder, max_detections=limit))
            scores[limit] = evaluate(data / "val.json", data / "images", predictor, limit)
    results = predictor.results  # at the highest limit
    cases = [judge(sample, _from(results[sample.path], conf)) for sample in held_out.samples]
    ceiling = {limit: best_possible(data, held_out, limit) for limit in limits}
    return Measured(facts, size, scores, ceiling, rank(cases))


def write_pictures(card: Card, choice: Choice, folder: Path) -> Card:
    """Draw what was chosen; returns the card that names it."""
    kinds = (("success", choice.successes), ("failure", choice.failures))
    shown = {
        f"{card.name}-{kind}-{place}.jpg": case for kind, cases in kinds for place, case in enumerate(cases, start=1)
    }
    for picture, case in shown.items():
        replace_file(folder / picture, draw_case(case))
    if choice.cover is not None:
        replace_file(folder / f"{card.name}.png", draw_cover(choice.cover))
    return card.model_copy(update={"shown": {picture: case.fit.file for picture, case in shown.items()}})


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


def best_possible(data: Path, held_out: CocoData, limit: int) -> Scores:
    """What the annotations themselves score when only `limit` of them count per class and image."""
    most = max([limit, *(len(sample.instances) for sample in held_out.samples)])
    return evaluate(data / "val.json", data / "images", TruthPredictor(held_out, most), limit)


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


def _from(result: Result, conf: float) -> Result:
    return result[result.boxes.conf >= conf]


if __name__ == "__main__":
    application = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    application.command()(main)
    try:
        application()
    except CondinstError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)

"""Compare backbones and assigners on a tuning part of the training pictures: what the shipped models are chosen by.

    python -m benchmarks.data.tuning_part datasets/nuclei runs/tuning/nuclei --photos 60
    python -m benchmarks.accuracy.backbones benchmarks/accuracy/recipes/nuclei.yaml \
        runs/tuning/nuclei runs/backbones/nuclei

DATA holds train.json and val.json of `benchmarks.data.tuning_part`, so the held-out pictures of the data set choose
nothing. Each pair of a backbone and a method trains with the same pictures, the same number of steps and one thread.
Writes benchmarks/results/backbones/DATA-SEED.json after each run. A run that OUT has already is not repeated. The file
keeps what it has of other pairs, if they saw as many pictures.
"""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.accuracy.mask_rcnn import count_parameters, load_own, measure, read_limits, train_own
from benchmarks.facts import ROOT
from condinst.config import Config
from condinst.errors import UsageError
from condinst.files import replace_file
from condinst.recipes import load_recipe
from condinst.weights.folder import load_model
from condinst.weights.names import WEIGHTS_FILE


@dataclass(frozen=True)
class Backbone:
    """A backbone with ImageNet weights. title: as the table names it; init: file of the weights."""

    title: str
    name: str
    init: str


RESULTS = "backbones"  # folder of benchmarks/results: a file for each data set and seed
LITE = "weights/efficientnet_lite{}_imagenet_fp16.safetensors"
BACKBONES = {
    "mobilenetv2": Backbone("MobileNetV2", "mobilenetv2_100", "weights/mobilenet_v2_imagenet.npz"),
    "lite0": Backbone("EfficientNet-Lite0", "tf_efficientnet_lite0", LITE.format(0)),
    "lite2": Backbone("EfficientNet-Lite2", "tf_efficientnet_lite2", LITE.format(2)),
}
DYNAMIC = ("targets.assigner=dynamic", "loss.classification=quality_focal", "loss.box=clamped_giou")
RTM = (  # the model and the losses of the recipe small-rtm
    *DYNAMIC,
    "model.method=rtmdet-ins",
    "model.pyramid=pafpn",
    "model.fpn_channels=96",
    "model.head.convs=2",
    "model.head.distance_prior=1",
    "model.size_ranges=[]",
    "model.coordinate_scales=[64,128,256]",
    "detect.score_root=false",
    "loss.box_weight=2",
    "loss.mask_weight=2",
)
FOCAL = (*DYNAMIC, "loss.classification=focal")  # hard labels
METHODS: dict[str, tuple[str, ...]] = {"fcos": (), "dynamic": DYNAMIC, "dynamic-focal": FOCAL, "rtmdet": RTM}


def main(
    recipe: str,
    data: Path,
    out: Path,
    overrides: Annotated[list[str] | None, typer.Argument()] = None,
    backbones: Annotated[str, typer.Option(help="Some of mobilenetv2, lite0, lite2.")] = ",".join(BACKBONES),
    methods: Annotated[str, typer.Option(help="Some of fcos, dynamic, dynamic-focal, rtmdet.")] = ",".join(METHODS),
    limits: str = "500",
    root: Annotated[Path, typer.Option(help="Where benchmarks/results/ is written.")] = ROOT,
) -> None:
    """Train and score each pair."""
    torch.set_num_threads(1)  # so that the CPU time counts the same for all
    for method in _chosen(methods, METHODS):
        for backbone in _chosen(backbones, BACKBONES):
            config = load_recipe(recipe).with_overrides([*_settings(backbone, method), *(overrides or [])])
            train_pair(config, data, out / f"{backbone}-{method}", limits)
            record(root, data.name, config, out)


def _chosen(text: str, known: dict[str, Any]) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in known:
            raise UsageError(f"'{name}': expected some of {', '.join(known)}")
    return names


def _settings(backbone: str, method: str) -> list[str]:
    chosen = BACKBONES[backbone]
    return [f"model.backbone.name={chosen.name}", f"train.init={chosen.init}", *METHODS[method]]


def train_pair(config: Config, data: Path, folder: Path, limits: str) -> dict[str, Any]:
    """Train and measure one pair, unless `folder` has it already with the same settings."""
    settings = {"data": data.name, "limits": limits, **config.model_dump(mode="json")}
    file = folder / "measured.json"
    if file.exists():
        found: dict[str, Any] = json.loads(file.read_text())
        if found.pop("settings") != settings:
            raise UsageError(f"{file}: of other settings; take another folder")
        return found
    seconds = train_own(config, data, folder)
    scores = measure(load_own(folder, limits), data, limits)[max(read_limits(limits))]
    parts = {name: {key: scores[name][key] for key in ("AP", "AP50", "AP75")} for name in ("bbox", "segm")}
    found = {
        "seconds": round(seconds),
        "parameters": count_parameters(load_model(folder)[0]),
        "file_bytes": (folder / WEIGHTS_FILE).stat().st_size,
        "scores": parts,
    }
    file.write_text(json.dumps(found | {"settings": settings}, indent=1) + "\n")
    return found


def record(root: Path, data: str, config: Config, out: Path) -> None:
    """Write the results of the runs that OUT holds, beside those that the file has already."""
    images = config.train.iterations * config.train.batch_size
    folder = root / "benchmarks" / "results" / RESULTS
    path = folder / f"{data}-{config.train.seed}.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    kept = before["runs"] if before.get("images_seen") == images else {}
    runs = {file.parent.name: json.loads(file.read_text()) for file in sorted(out.glob("*/measured.json"))}
    new = {pair: {key: run[key] for key in run if key != "settings"} for pair, run in runs.items()}
    facts = {
        "data": data,
        "seed": config.train.seed,
        "command": shlex.join(["python", "-m", "benchmarks.accuracy.backbones", *_without_choice(sys.argv[1:])]),
        "images_seen": images,
        "runs": dict(sorted({**kept, **new}.items())),
    }
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(path, (json.dumps(facts, indent=1) + "\n").encode())


def _without_choice(words: list[str]) -> list[str]:
    """The arguments without the options that choose some of the pairs: the command that trains all of them."""
    chosen = {at for at, word in enumerate(words) if word in {"--backbones", "--methods"}}
    return [word for at, word in enumerate(words) if at not in chosen and at - 1 not in chosen]


if __name__ == "__main__":
    typer.run(main)

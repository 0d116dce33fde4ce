"""The rival in the models' tables: torchvision's Mask R-CNN on the same backbone, trained by the same engine.

    python -m benchmarks.accuracy.mask_rcnn benchmarks/accuracy/recipes/nuclei.yaml \
        datasets/nuclei runs/nuclei-beside-0
    python -m benchmarks.accuracy.mask_rcnn nuclei datasets/nuclei runs/nuclei-recipe-0   # the shipped model's recipe

Trains both with one recipe: the same data, augmentation, resolution, optimizer and schedule; CondInst once on as many
images, and once for as long, because a step of Mask R-CNN takes about twice the time. Mask R-CNN's
heads are as wide as the recipe's, so that both models have the same order of size; everything else is torchvision's
default. It also gets P2.

A training's time is the CPU time of its process, which has one thread and no workers (`train.workers=0`): what else
runs on the machine has little part in it.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from accelerate.state import AcceleratorState
from safetensors.torch import save_file
from torch import nn

from benchmarks.accuracy.rival import Rival, RivalPredictor, load_rival, rival_losses
from condinst.config import Config
from condinst.data.formats.coco.read import read_coco
from condinst.engine.batches import make_steps
from condinst.engine.fit import fit
from condinst.engine.processes import make_accelerator
from condinst.engine.train import require_masks, train
from condinst.errors import UsageError
from condinst.evaluation.evaluate import evaluate
from condinst.inference.result import Result
from condinst.predictor import Predictor
from condinst.recipes import load_recipe
from condinst.weights.backbone import load_backbone_weights

PARTS = ("mask-rcnn", "condinst", SAME_TIME := "condinst-same-time")
# what Mask R-CNN takes from the recipe; CondInst takes all of it
RIVAL_READS = {
    "input": True,
    "augment": True,
    "train": True,
    "detect": {"max_detections"},
    "model": {
        "backbone": True,
        "fpn_channels": True,
        "head": {"channels"},
        "pixel_mean": True,
        "pixel_std": True,
        "channel_order": True,
        "size_divisor": True,
    },
}
READ: dict[str, Any] = {PARTS[0]: RIVAL_READS}


def train_rival(config: Config, data: Path, folder: Path) -> float:
    """Train and save; returns the seconds of CPU time it took."""
    coco = read_coco(data / "train.json", data / "images")
    require_masks(coco, "Mask R-CNN learns from masks alone")
    head = config.model.mask_head.model_copy(update={"mask_out_stride": 1})  # whole masks, as Mask R-CNN crops them
    model_config = config.model.model_copy(update={"classes": coco.classes, "mask_head": head})
    config = config.model_copy(update={"model": model_config})
    accelerator = make_accelerator(config)
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.train.seed)
    model = Rival(config, len(coco.classes))
    load_backbone_weights(model.backbone.body, Path(config.train.init))
    if config.train.channels_last:
        model = model.to(memory_format=torch.channels_last)
    started = time.process_time()
    batches = partial(make_steps, config=config, data=coco, accelerator=accelerator)
    kept = fit(model, rival_losses, batches, config.train, folder, accelerator)
    save_file({name: tensor.contiguous() for name, tensor in kept.state_dict().items()}, folder / "model.safetensors")
    seconds = time.process_time() - started
    AcceleratorState._reset_state(reset_partial_state=True)
    return seconds


def main(
    recipe: str,
    data: Path,
    out: Path,
    overrides: Annotated[list[str] | None, typer.Argument()] = None,
    limits: str = "100,500",
    parts: Annotated[str, typer.Option(help="Those to train, of the three; the same OUT takes the others later.")] = (
        ",".join(PARTS)
    ),
) -> None:
    """Train and score Mask R-CNN, CondInst on as many images, and CondInst for as long; writes OUT/scores.json."""
    torch.set_num_threads(1)  # so that time counts the same for both
    config = load_recipe(recipe).with_overrides(overrides or [])
    runs = dict.fromkeys(PARTS, None) | {part: _run(part, config, data, out, limits) for part in parts.split(",")}
    rival, own, longer = runs.values()
    if rival is None or own is None:
        return
    summary = {
        "recipe": Path(recipe).stem,
        "data": data.name if Path(recipe).suffix else f"{data.name}, own recipe",
        "seed": config.train.seed,
        "command": shlex.join(["python", "-m", "benchmarks.accuracy.mask_rcnn", *sys.argv[1:]]),
        "parameters": count_parameters(Rival(config, len(read_coco(data / "val.json", data / "images").classes))),
        "iterations": config.train.iterations,
        "images_seen": config.train.iterations * config.train.batch_size,
        "training_seconds": rival["seconds"],
        "scores": rival["scores"],
        "condinst": own["scores"],
        "condinst_seconds": own["seconds"],
        "same_time": longer and {name: longer[name] for name in ("iterations", "seconds", "scores")},
    }
    (out / "scores.json").write_text(json.dumps(summary, indent=1) + "\n")


def _run(part: str, config: Config, data: Path, out: Path, limits: str) -> dict[str, Any]:
    """Train and measure one of PARTS, unless OUT has it already, of the same settings."""
    if part == SAME_TIME:
        rival, own = (_run(other, config, data, out, limits) for other in PARTS[:2])
        iterations = max(round(config.train.iterations * rival["seconds"] / own["seconds"]), 1)
        config = config.model_copy(update={"train": config.train.model_copy(update={"iterations": iterations})})
    settings = {"data": data.name, "limits": limits, **config.model_dump(mode="json", include=READ.get(part))}
    folder, file = out / part, out / part / "measured.json"
    if file.exists():
        found: dict[str, Any] = json.loads(file.read_text())
        if found["settings"] != settings:
            raise UsageError(f"{file}: of other settings; take another folder")
        return found
    seconds = (train_rival if part == PARTS[0] else train_own)(config, data, folder)
    predictor = load_rival(config, data, folder) if part == PARTS[0] else load_own(folder, limits)
    scores = measure(predictor, data, limits)
    found = {"iterations": config.train.iterations, "seconds": round(seconds), "scores": scores, "settings": settings}
    file.write_text(json.dumps(found, indent=1) + "\n")
    return found


def train_own(config: Config, data: Path, folder: Path) -> float:
    """Train and save CondInst; returns the seconds of CPU time it took."""
    started = time.process_time()
    train(config, read_coco(data / "train.json", data / "images"), folder)
    seconds = time.process_time() - started
    AcceleratorState._reset_state(reset_partial_state=True)
    return seconds


def load_own(folder: Path, limits: str) -> Predictor:
    """The trained CondInst from `folder`."""
    return Predictor(folder, conf=None, max_detections=max(read_limits(limits)))


def count_parameters(model: nn.Module) -> int:
    """Numbers that the model learns or keeps fixed."""
    return sum(parameter.numel() for parameter in model.parameters())


def read_limits(text: str) -> list[int]:
    """'100,500' → [100, 500]."""
    return [int(limit) for limit in text.split(",")]


class Once:
    """A predictor that is asked for a picture once; the further limits count fewer of the same detections."""

    def __init__(self, predictor: RivalPredictor | Predictor) -> None:
        self.config, self.names = predictor.config, predictor.names
        self.answer = cache(predictor)

    def __call__(self, source: Path) -> Result:
        return self.answer(source)


def measure(model: RivalPredictor | Predictor, data: Path, limits: str) -> dict[int, dict[str, Any]]:
    """Scores at each detection limit."""
    scores, predictor = {}, Once(model)
    held_out = read_coco(data / "val.json", data / "images")
    for limit in read_limits(limits):
        found = evaluate(held_out, predictor, limit)
        print(f"{type(model).__name__}, limit {limit}: box AP {found.bbox.AP:.3f}, mask AP {found.segm.AP:.3f}")
        scores[limit] = found.to_dict()
    return scores


if __name__ == "__main__":
    typer.run(main)

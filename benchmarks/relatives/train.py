"""The process of one training of the comparison: trains an entry, measures it at several points, writes OUT/run.json.

    python -m benchmarks.relatives.train condinst datasets/nuclei runs/family/nuclei-0/condinst --pictures 800

Training goes on until the model has seen `--pictures` and has used `--seconds` of CPU time. The weights of each point
are kept in OUT and measured on the held-out pictures afterwards. Nothing is chosen by these scores.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from safetensors.torch import save_file
from torch import nn

from benchmarks.accuracy.mask_rcnn import count_parameters
from benchmarks.accuracy.rival import Rival, load_rival, rival_losses
from benchmarks.facts import read_facts, run_command
from benchmarks.relatives.contest import BATCH, FAMILY, RIVAL, configure, find_entry
from benchmarks.relatives.record import Point, Run
from condinst.config import Config
from condinst.data.formats.coco.read import read_coco
from condinst.data.sample import AnnotatedData
from condinst.engine.averaging import moving_average
from condinst.engine.batches import make_steps
from condinst.engine.build import build_model
from condinst.engine.fit import fit
from condinst.engine.losses import prepare, step_losses
from condinst.engine.processes import make_accelerator
from condinst.evaluation.analysis import examine
from condinst.evaluation.evaluate import Predicts
from condinst.files import replace_file
from condinst.methods.choose import method_of
from condinst.model.backbones.backbone import Backbone
from condinst.model.instance_network import InstanceNetwork
from condinst.predictor import Predictor
from condinst.weights.backbone import load_backbone_weights
from condinst.weights.folder import load_model, save_model

SHARES = (0.25, 0.5, 1.0)  # of the pictures: the points of the curves
LAST = f"pictures-{SHARES[-1]:g}"  # the point with all pictures
LONGEST = 8  # times the pictures: no method is that much faster than CondInst
FOR_MASKS = ("mask_branch.", "head.controller.", "head.mask_tower.", "head.masks.")  # parameters that serve masks alone
FOR_MASKS_OF_RIVAL = ("roi_heads.mask_head.", "roi_heads.mask_predictor.")


@dataclass
class Clock:
    """The points of a training. kept: name of each point → pictures and CPU seconds at which its weights were kept."""

    pictures: int
    seconds: float
    shares: tuple[float, ...] = SHARES
    started: float = field(default_factory=time.process_time)
    kept: dict[str, tuple[int, float]] = field(default_factory=dict)

    def due(self, pictures: int) -> list[str]:
        """The names of the points that are reached and not kept yet."""
        spent = time.process_time() - self.started
        found = [f"pictures-{share:g}" for share in self.shares if pictures >= share * self.pictures]
        if self.seconds and spent >= self.seconds:
            found.append("time")
        found = [name for name in found if name not in self.kept]
        self.kept |= dict.fromkeys(found, (pictures, spent))
        return found

    @property
    def over(self) -> bool:
        """Whether all points are kept."""
        return LAST in self.kept and (self.seconds == 0 or "time" in self.kept)


def main(
    entry: str,
    data: Path,
    out: Path,
    pictures: Annotated[int, typer.Option(help="Pictures that training sees at least.")],
    seconds: Annotated[float, typer.Option(help="CPU time that training takes at least; 0: any.")] = 0,
    seed: int = 0,
    code: Annotated[Path, typer.Option(help="File of the mask code, for MEInst.")] = Path("none"),
) -> None:
    """Train, measure and write OUT/run.json."""
    torch.set_num_threads(1)
    config = configure(entry, data.name, LONGEST * pictures, seed, code)
    out.mkdir(parents=True, exist_ok=True)
    like = find_entry(entry).like
    run = again(entry, config, data, out.parent / like) if like else learn(entry, config, data, out, pictures, seconds)
    replace_file(out / "run.json", (run.model_dump_json(indent=1) + "\n").encode())


def again(entry: str, config: Config, data: Path, like: Path) -> Run:
    """Measure the model of another entry with the settings of this one. like: folder of the other entry."""
    run = read_facts(like / "run.json", Run)
    held_out = read_coco(data / "val.json", data / "images")
    point = measure(entry, config, like / LAST, held_out, run.pictures.pictures, run.pictures.seconds)
    return run.model_copy(update={"pictures": point, "time": point, "points": (point,)})


def learn(entry: str, config: Config, data: Path, out: Path, pictures: int, seconds: float) -> Run:
    """Train an entry and measure its points."""
    clock = Clock(pictures, seconds, SHARES if entry in FAMILY else SHARES[-1:])
    model = train(entry, config, read_coco(data / "train.json", data / "images"), out, clock)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    held_out = read_coco(data / "val.json", data / "images")
    known: dict[tuple[int, float], Point] = {}
    for name, place in clock.kept.items():
        if place not in known:
            known[place] = measure(entry, config, out / name, held_out, *place)
    last = known[clock.kept[LAST]]
    parts = FOR_MASKS_OF_RIVAL if entry == RIVAL else FOR_MASKS
    return Run(
        parameters=count_parameters(model),
        mask_parameters=sum(p.numel() for name, p in model.named_parameters() if name.startswith(parts)),
        megabytes=round(peak / 1e6),
        pictures=last,
        time=known[clock.kept["time"]] if "time" in clock.kept else last,
        points=tuple(sorted(known.values(), key=lambda point: point.pictures)),
    )


def train(entry: str, config: Config, data: AnnotatedData, out: Path, clock: Clock) -> nn.Module:
    """Train an entry from the backbone's weights and keep the weights of each point. Returns the network."""
    config = config.model_copy(update={"model": config.model.model_copy(update={"classes": data.classes})})
    accelerator = make_accelerator(config)
    model: nn.Module
    losses: Any
    if entry == RIVAL:
        config = whole_masks(config)
        torch.manual_seed(config.train.seed)
        model = Rival(config, len(data.classes))
        load_backbone_weights(model.backbone.body, Path(config.train.init))
        freeze_alike(model.backbone.body, config)
        if config.train.channels_last:
            model = model.to(memory_format=torch.channels_last)
        losses = rival_losses
    else:
        model, _ = build_model(config, accelerator, None)
        begin = method_of(config.model).begin
        if begin is not None:
            begin(model, config)
        losses = partial(step_losses, config=config, accelerator=accelerator)

    average = moving_average(model, config.train)

    def steps(start: int) -> Iterator[Any]:
        """The batches. Between two steps, the average follows the model, and the clock is asked."""
        for done, batches in enumerate(make_steps(start, config, data, accelerator)):
            if done:
                average.update_parameters(model)
            for name in clock.due(done * BATCH):
                keep(average.module, config, out / name)
            if clock.over:
                return
            yield batches if entry == RIVAL else prepare(batches, config, accelerator)

    clock.started = time.process_time()
    own_average = {"ema_decay": 0.0, "checkpoint_every": config.train.iterations}
    fit(model, losses, steps, config.train.model_copy(update=own_average), out, accelerator)
    return model


def freeze_alike(body: nn.Module, config: Config) -> None:
    """Freeze the parts of a backbone that CondInst's backbone of the same settings freezes."""
    learns = {name: own.requires_grad for name, own in Backbone(config.model.backbone).body.named_parameters()}
    for name, parameter in body.named_parameters():
        parameter.requires_grad_(learns[name])


def whole_masks(config: Config) -> Config:
    """The settings with masks of the whole resolution, as Mask R-CNN crops them."""
    head = config.model.mask_head.model_copy(update={"mask_out_stride": 1})
    return config.model_copy(update={"model": config.model.model_copy(update={"mask_head": head})})


def keep(module: nn.Module, config: Config, folder: Path) -> None:
    """Write the weights of a point."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(module, InstanceNetwork):
        save_model(module, config, folder, half=config.train.half)
    else:
        weights = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
        save_file(weights, folder / "model.safetensors")


def open_entry(entry: str, config: Config, folder: Path, data: Path, settings: list[str]) -> Predicts:
    """The predictor of a point. settings: changes of the settings of detection."""
    if entry == RIVAL:
        return load_rival(config.with_overrides(settings), data, folder)
    module, own = load_model(folder)
    return Predictor.from_model(module, own.with_overrides(settings), "cpu")


def measure(entry: str, config: Config, folder: Path, held_out: AnnotatedData, pictures: int, seconds: float) -> Point:
    """Score the weights of a point on the held-out pictures."""
    like = find_entry(entry)
    predictor = open_entry(entry, config, folder, held_out.source.parent, list(like.settings) if like.like else [])
    scores, analysis = examine(held_out, predictor, config.detect.max_detections)
    boundary = analysis.boundary
    return Point(
        pictures=pictures,
        seconds=round(seconds, 1),
        mask=scores.segm.AP,
        mask50=scores.segm.AP50,
        mask75=scores.segm.AP75,
        boundary=-1 if boundary is None else boundary.AP,
        box=scores.bbox.AP,
    )


if __name__ == "__main__":
    run_command(main)

"""The rival in the models' tables: torchvision's Mask R-CNN on the same backbone, trained by the same engine.

    python benchmarks/mask_rcnn.py nuclei ../shared/data/nuclei runs/nuclei-beside \
        train.init=../shared/weights/mobilenet_v2_imagenet.npz

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
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import timm
import torch
import typer
from accelerate.state import AcceleratorState
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNN, MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from condinst.config import Config
from condinst.data.batch import Batch, make_images
from condinst.data.coco import read_coco
from condinst.data.image import read_image
from condinst.data.transforms import resize_image, resize_shape
from condinst.engine.batches import make_steps
from condinst.engine.fit import fit
from condinst.engine.processes import make_accelerator
from condinst.engine.train import require_masks, train
from condinst.errors import UsageError
from condinst.evaluation.evaluate import evaluate
from condinst.inference.result import Boxes, Masks, Result
from condinst.ops.boxes import scale_boxes
from condinst.ops.packed_masks import unpack
from condinst.ops.rle import Region, Rle, encode
from condinst.predictor import Predictor
from condinst.recipes import load_recipe
from condinst.structures import Truth
from condinst.weights.backbone import load_backbone_weights

BOX_FEATURES = 256
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


class Pyramid(nn.Module):
    """timm backbone and torchvision's FPN: P2–P5 and a max-pooled P6."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        options = {"pad_type": "same"} if config.model.backbone.same_padding else {}
        name = config.model.backbone.name
        self.body = timm.create_model(name, features_only=True, out_indices=(1, 2, 3, 4), **options)
        self.out_channels = config.model.fpn_channels
        self.fpn = FeaturePyramidNetwork(self.body.feature_info.channels(), self.out_channels, LastLevelMaxPool())

    def train(self, mode: bool = True) -> Pyramid:
        super().train(mode)
        for module in self.body.modules():  # the statistics stay fixed, as in the recipe
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        named = OrderedDict((str(index), level) for index, level in enumerate(self.body(images)))
        levels: dict[str, Tensor] = self.fpn(named)
        return levels


class Rival(nn.Module):
    """torchvision's Mask R-CNN without its own resizing: it gets the batches that CondInst gets."""

    def __init__(self, config: Config, classes: int) -> None:
        super().__init__()
        self.backbone = Pyramid(config)
        channels, width = config.model.fpn_channels, config.model.head.channels
        detect = config.detect
        parts = MaskRCNN(
            self.backbone,
            rpn_anchor_generator=AnchorGenerator(((16,), (32,), (64,), (128,), (256,)), ((0.5, 1.0, 2.0),) * 5),
            box_head=TwoMLPHead(channels * 7**2, BOX_FEATURES),
            box_predictor=FastRCNNPredictor(BOX_FEATURES, classes + 1),
            mask_head=MaskRCNNHeads(channels, (width,) * 4, 1),
            mask_predictor=MaskRCNNPredictor(width, width, classes + 1),
            box_detections_per_img=detect.max_detections,
            rpn_pre_nms_top_n_train=2000,
            rpn_post_nms_top_n_train=1000,
            box_batch_size_per_image=256,
        )
        self.rpn, self.roi_heads = parts.rpn, parts.roi_heads

    def forward(self, batch: Batch) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        images = ImageList(batch.images.tensor, list(batch.images.sizes))
        features = {name: level.float() for name, level in self.backbone(images.tensors).items()}
        targets = None
        if self.training:
            targets = [
                {"boxes": truth.boxes, "labels": truth.labels + 1, "masks": whole_masks(truth, size)}
                for truth, size in zip(batch.truths, batch.images.sizes, strict=True)
            ]
        with torch.autocast(images.tensors.device.type, enabled=False):
            proposals, rpn_losses = self.rpn(images, features, targets)
        detections, roi_losses = self.roi_heads(features, proposals, images.image_sizes, targets)
        return rpn_losses | roi_losses if self.training else detections


def whole_masks(truth: Truth, size: tuple[int, int]) -> Tensor:
    """(M, *size) uint8, the masks of every instance of a picture of `size` (height, width)."""
    every = torch.arange(len(truth.mask_places), device=truth.mask_places.device)
    return unpack(truth.mask_pixels, truth.mask_places, every, size).to(torch.uint8)


def rival_losses(model: nn.Module, batch: Batch, _: torch.Generator, __: int) -> dict[str, Tensor]:
    return {name: loss.float() for name, loss in model(batch).items()}


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


class RivalPredictor:
    """What evaluation needs: the same reading and resizing as `condinst.Predictor`, masks pasted by torchvision."""

    def __init__(self, model: Rival, config: Config) -> None:
        self.model, self.config = model.eval(), config

    @property
    def names(self) -> dict[int, str]:
        return dict(enumerate(self.config.model.classes))

    def __call__(self, source: Path) -> Result:
        image = read_image(source)
        original = (image.shape[0], image.shape[1])
        settings = self.config.model
        resized = resize_image(image, *resize_shape(*original, self.config.input.shorter, self.config.input.longer))
        images = make_images(
            [resized],
            [original],
            settings.pixel_mean,
            settings.pixel_std,
            settings.channel_order,
            settings.size_divisor,
        )
        with torch.inference_mode():
            found = self.model(Batch(images, ()))[0]
        boxes = scale_boxes(found["boxes"], images.sizes[0], original)
        rles: list[Rle] = []
        for mask, box in zip(found["masks"], boxes, strict=True):
            pasted = paste_masks_in_image(mask[None], box[None], original)[0, 0] > 0.5
            rles.append(encode(Region(pasted.numpy(), 0, 0), *original))
        shown = Boxes(boxes, found["scores"], found["labels"] - 1)
        return Result(shown, Masks(tuple(rles), original), self.names, original, source)


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
        "data": data.name,
        "seed": config.train.seed,
        "command": shlex.join(["python", *sys.argv]),
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


def measure(predictor: RivalPredictor | Predictor, data: Path, limits: str) -> dict[int, dict[str, Any]]:
    """Scores at each detection limit."""
    scores = {}
    held_out = read_coco(data / "val.json", data / "images")
    for limit in read_limits(limits):
        found = evaluate(held_out, predictor, limit)
        print(f"{type(predictor).__name__}, limit {limit}: box AP {found.bbox.AP:.3f}, mask AP {found.segm.AP:.3f}")
        scores[limit] = found.to_dict()
    return scores


def load_rival(config: Config, data: Path, folder: Path) -> RivalPredictor:
    """The trained rival from `folder`."""
    classes = read_coco(data / "val.json", data / "images").classes
    config = config.model_copy(update={"model": config.model.model_copy(update={"classes": classes})})
    model = Rival(config, len(classes))
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return RivalPredictor(model, config)


if __name__ == "__main__":
    typer.run(main)

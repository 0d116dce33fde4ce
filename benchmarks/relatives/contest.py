"""Who takes part in the comparison of the family, on which data, and with which settings.

Every entry has the same backbone, pictures, augmentation, optimizer, batch and learning rate. A network sees whole
pictures, never crops, because the grids of SOLO belong to a whole picture. The learning rate stays constant after the
warm-up, and the moving average of the weights is measured. So one training shows what a method has learned after any
number of pictures and after any time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from condinst.config import Config
from condinst.recipes import load_recipe

RIVAL = "mask-rcnn"
FIRST = "condinst"  # its time is the time of all others
BATCH = 2
COMMON = (
    "train.init=weights/mobilenet_v2_imagenet.npz",
    "model.backbone.same_padding=true",  # as the first weights were trained
    "model.backbone.frozen_stages=3",  # as the paper: what makes C2 does not learn
    "model.pixel_mean=[127.5,127.5,127.5]",
    "model.pixel_std=[127.5,127.5,127.5]",
    "augment.jitter=[0.8,1.25]",
    "augment.brightness=0.3",
    "augment.contrast=0.3",
    "augment.saturation=0.3",
    f"train.batch_size={BATCH}",
    "train.lr=0.0007",
    "train.warmup_iterations=40",
    "train.schedule=step",
    "train.milestones=[]",
    "train.ema_decay=0.97",
    "train.precision=bf16",
    "train.workers=0",  # one thread does everything, so that its CPU time is the training's
    "detect.candidates_per_level=2000",
)


@dataclass(frozen=True)
class Entry:
    """A method of the table.

    settings: changes of the recipe. like: the entry whose trained model this one measures, with `settings` of
    detection; "" if the entry trains a model of its own. paper: mask AP on COCO in the ablations of the paper
    (arXiv 2003.05664, §4.1), or "" if the paper has none.
    """

    title: str
    recipe: str = "small"
    settings: tuple[str, ...] = ()
    like: str = ""
    paper: str = ""


@dataclass(frozen=True)
class Data:
    """How the pictures of a data set are seen. shorter, longer: pixels. limit: detections that count."""

    shorter: int
    longer: int
    limit: int
    settings: tuple[str, ...] = ()


UPSIDE_DOWN = ("augment.flip_vertical=0.5", "augment.turns=true")  # pictures without a fixed top
DATA = {
    "nuclei": Data(320, 448, 500, UPSIDE_DOWN),
    "facade": Data(320, 320, 100),
    "granular": Data(288, 480, 500, UPSIDE_DOWN),
    "strawberry": Data(256, 256, 100),
}
FAMILY: Mapping[str, Entry] = {
    FIRST: Entry("CondInst"),
    "depth-1": Entry("CondInst, depth 1", settings=("model.mask_head.depth=1",)),
    "solo": Entry("SOLO", "small-solo"),
    "solov2": Entry("SOLOv2's masks on FCOS", "small-solov2"),
    "yolact": Entry("YOLACT's masks on FCOS", "small-yolact"),
    "blendmask": Entry("BlendMask", "small-blendmask"),
    "meinst": Entry("MEInst", "small-meinst"),
    RIVAL: Entry("Mask R-CNN"),
}


def _variants(setting: str, prefix: str, papers: Mapping[int, str], default: int) -> dict[str, Entry]:
    """The values of a setting. The default is CondInst itself."""
    return {
        FIRST if value == default else f"{prefix}-{value}": Entry(
            str(value), settings=() if value == default else (f"model.{setting}={value}",), paper=paper
        )
        for value, paper in papers.items()
    }


ABLATIONS: Mapping[str, Mapping[str, Entry]] = {
    "depth of the dynamic mask head": _variants(
        "mask_head.depth", "depth", {1: "30.9", 2: "35.5", 3: "35.7", 4: "35.7"}, 3
    ),
    "coordinates": {
        "coordinates-none": Entry("none", settings=("model.mask_head.coordinates=none",), paper="31.4"),
        "coordinates-absolute": Entry("absolute", settings=("model.mask_head.coordinates=absolute",), paper="31.5"),
        "coordinates-only": Entry(
            "relative, no mask features", settings=("model.mask_head.coordinates=only",), paper="31.3"
        ),
        FIRST: Entry("relative", paper="35.7"),
    },
    "pixels of the input for each pixel of a mask": _variants(
        "mask_head.mask_out_stride", "stride", {8: "34.4", 4: "35.8", 2: "35.7"}, 4
    ),
    "suppression of duplicates": {
        FIRST: Entry("boxes", paper="35.7"),
        "nms-mask": Entry("masks", settings=("detect.nms=mask",), like=FIRST, paper="35.7"),
        "nms-matrix": Entry("Matrix NMS", settings=("detect.nms=matrix",), like=FIRST),
    },
    "width of the dynamic mask head": _variants(
        "mask_head.width", "width", {2: "34.1", 4: "35.6", 8: "35.7", 16: "35.6"}, 8
    ),
    "mask features": _variants("mask_branch.features", "features", {2: "35.4", 4: "35.5", 8: "35.7", 16: "35.5"}, 8),
}


def find_entry(name: str) -> Entry:
    """The entry of the family or of the ablations."""
    if name in FAMILY:
        return FAMILY[name]
    return next(group[name] for group in ABLATIONS.values() if name in group)


def configure(name: str, data: str, pictures: int, seed: int, code: Path) -> Config:
    """The settings of an entry on a data set.

    pictures: upper bound of the pictures that training may see. code: file of the mask code, for MEInst alone.
    """
    entry, seen = find_entry(name), DATA[data]
    settings = [
        *COMMON,
        *seen.settings,
        *entry.settings,
        f"input.shorter={seen.shorter}",
        f"input.longer={seen.longer}",
        f"augment.shorter=[{seen.shorter}]",
        f"augment.longer={seen.longer}",
        f"detect.max_detections={seen.limit}",
        f"train.iterations={-(-pictures // BATCH)}",
        f"train.seed={seed}",
    ]
    if entry.recipe == "small-meinst":
        settings.append(f"train.mask_code={code}")
    return load_recipe(entry.recipe).with_overrides(settings)

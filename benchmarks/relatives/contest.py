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
    detection; "" if the entry trains a model of its own.
    """

    title: str
    recipe: str = "small"
    settings: tuple[str, ...] = ()
    like: str = ""


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
ABLATIONS: Mapping[str, Mapping[str, Entry]] = {
    "depth of the dynamic mask head": {
        **{f"depth-{depth}": Entry(str(depth), settings=(f"model.mask_head.depth={depth}",)) for depth in (1, 2)},
        FIRST: Entry("3"),
        "depth-4": Entry("4", settings=("model.mask_head.depth=4",)),
    },
    "width of the dynamic mask head": {
        **{f"width-{width}": Entry(str(width), settings=(f"model.mask_head.width={width}",)) for width in (2, 4)},
        FIRST: Entry("8"),
        "width-16": Entry("16", settings=("model.mask_head.width=16",)),
    },
    "mask features": {
        **{
            f"features-{count}": Entry(str(count), settings=(f"model.mask_branch.features={count}",))
            for count in (2, 4)
        },
        FIRST: Entry("8"),
        "features-16": Entry("16", settings=("model.mask_branch.features=16",)),
    },
    "coordinates": {
        "coordinates-none": Entry("none", settings=("model.mask_head.coordinates=none",)),
        "coordinates-absolute": Entry("absolute", settings=("model.mask_head.coordinates=absolute",)),
        FIRST: Entry("relative"),
        "coordinates-only": Entry("relative, no mask features", settings=("model.mask_head.coordinates=only",)),
    },
    "pixels of the input for each pixel of a mask": {
        "stride-8": Entry("8", settings=("model.mask_head.mask_out_stride=8",)),
        FIRST: Entry("4"),
        "stride-2": Entry("2", settings=("model.mask_head.mask_out_stride=2",)),
    },
    "suppression of duplicates": {
        FIRST: Entry("boxes"),
        "nms-mask": Entry("masks", settings=("detect.nms=mask",), like=FIRST),
        "nms-matrix": Entry("Matrix NMS", settings=("detect.nms=matrix",), like=FIRST),
    },
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

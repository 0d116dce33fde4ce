"""The weights of the SOLO family, filled as ../shared/reference/{solo,solov2}/README.md say, and their settings."""

from __future__ import annotations

import math
import zlib
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from condinst.config import Config
from condinst.methods.choose import build_network
from condinst.model.solo import SoloNetwork
from condinst.recipes import load_recipe
from condinst.structures import Images
from condinst.weights.classes import COCO_CLASSES
from condinst.weights.published.solo import source_names

Arrays = dict[str, NDArray[Any]]
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
HEAD = "mask_head."


class Golden(NamedTuple):
    """A recorded model. gain, masks, bias: Gc, Gm or 0.12, and bm or bk of the formula."""

    folder: str
    recipe: str
    parameters: int
    gain: float
    masks: float
    bias: float


GOLDEN = {
    "solo": Golden("solo", "solo-r50-1x", 36_301_232, 24, 8, -1.5),
    "decoupled": Golden("solo", "decoupled-solo-r50-1x", 40_028_560, 24, 10, 0.2),
    "decoupled_light": Golden("solo", "decoupled-solo-light-r50-3x", 32_354_192, 24, 10, 0),
    "solov2": Golden("solov2", "solov2-r50-1x", 46_592_912, 32, 0.12, -0.015),
    "solov2_light": Golden("solov2", "solov2-light-r50-3x", 31_340_560, 32, 0.12, -0.01),
}


def value(key: str, shape: tuple[int, ...], golden: Golden) -> Tensor:
    r = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(key.encode())))
    fan = math.prod(shape[1:4])
    predicts_masks = key.startswith((f"{HEAD}conv_mask_list", f"{HEAD}conv_kernel"))
    if key.endswith("running_mean"):
        return 0.1 * r
    if key.endswith("running_var"):
        return 1 + 0.1 * r.abs()
    if key == f"{HEAD}conv_cls.weight":
        return (r - r.mean((2, 3), keepdim=True)) * math.sqrt(golden.gain / fan)
    if key == f"{HEAD}conv_cls.bias":
        return 0.8 * r - 7.4
    if predicts_masks and key.endswith(".weight"):
        return (r - r.mean((1, 2, 3), keepdim=True)) * math.sqrt(golden.masks / fan)
    if predicts_masks:
        return 0.05 * r + golden.bias
    if r.ndim == 4:
        return r * math.sqrt((1 if key.startswith("neck.") else 2) / fan)
    if key.startswith("backbone") and key.endswith("bn3.weight"):
        return 0.25 * (1 + 0.1 * r)
    return 1 + 0.1 * r if key.endswith(".weight") else 0.05 * r


@cache
def published(reference: Path, name: str) -> dict[str, Tensor]:
    """The state dict by mmdetection's names."""
    golden = GOLDEN[name]
    rows = (reference / golden.folder / f"{name}__keys.txt").read_text().splitlines()
    state = {}
    for key, shape_text, *_ in (line.split() for line in rows):
        shape = tuple(int(side) for side in shape_text.strip("()").split(",") if side)
        state[key] = value(key, shape, golden)
        if key.endswith("running_var"):
            state[key.replace("running_var", "num_batches_tracked")] = torch.tensor(0)
    return state


def config_of(name: str) -> Config:
    config = load_recipe(GOLDEN[name].recipe)
    return config.model_copy(update={"model": config.model.model_copy(update={"classes": COCO_CLASSES})})


def build(reference: Path, name: str) -> SoloNetwork:
    """The network with its weights, in evaluation mode."""
    model = build_network(config_of(name).model)
    assert isinstance(model, SoloNetwork)
    state = published(reference, name)
    model.load_state_dict({own: state[source_names(own)[0]] for own in model.state_dict()})
    return model.eval()


def load(reference: Path, name: str, kind: str) -> Arrays:
    with np.load(reference / GOLDEN[name].folder / f"{name}__{kind}.npz") as file:
        return dict(file)


def recorded_picture(reference: Path, name: str) -> Images:
    """The input of the recorded inference."""
    folder = GOLDEN[name].folder
    with np.load(reference / folder / f"{folder}__inference.npz") as file:
        picture, size = file["image_rgb_u8"], (256, 416)
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    height, width = picture.shape[:2]
    tensor = torch.zeros(1, 3, *size)
    tensor[0, :, :height, :width] = (torch.from_numpy(picture).permute(2, 0, 1).float() - mean) / std
    return Images(tensor, ((height, width),), ((422, 640),))

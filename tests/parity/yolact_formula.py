"""mmdetection's YOLACT with weights filled by formula, as ../shared/reference/yolact/README.md gives it."""

from __future__ import annotations

import json
import math
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from condinst.model.yolact import Yolact
from condinst.recipes import load_recipe
from condinst.weights.classes import COCO_CLASSES
from condinst.weights.published.yolact import source_names

MODEL = load_recipe("yolact-r50").model.model_copy(update={"classes": COCO_CLASSES})
MEAN, STD = (123.68, 116.78, 103.94), (58.40, 57.12, 57.38)
COUNTER = "num_batches_tracked"
ROW = re.compile(r"(\S+) \(([\d,]*)\) (\w+)")


def read_keys(folder: Path) -> dict[str, tuple[int, ...]]:
    rows = [ROW.match(line) for line in (folder / "yolact__keys.txt").read_text().splitlines()]
    return {row[1]: tuple(int(side) for side in row[2].split(",") if side) for row in rows if row}


def fill(folder: Path) -> dict[str, Tensor]:
    """The state dict of mmdetection, without the counters of its batch norms."""
    return {key: value(key, shape) for key, shape in read_keys(folder).items()}


def value(key: str, shape: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
    r = torch.randn(shape, generator=generator)
    if key.endswith("running_mean"):
        return 0.1 * r
    if key.endswith("running_var"):
        return 1 + 0.1 * r.abs()
    if key == "bbox_head.conv_cls.bias":
        bias = 0.05 * r
        bias[80::81] += 9
        return bias
    if key == "mask_head.segm_branch.segm_conv.bias":
        return 0.05 * r - 3
    if len(shape) == 4:
        gain, centred = kernel(key)
        centre = r.mean(centred, keepdim=True) if centred else 0
        return (r - centre) * math.sqrt(gain / math.prod(shape[1:]))
    if key.startswith("backbone") and key.endswith("bn3.weight"):
        return 0.25 * (1 + 0.1 * r)
    return 1 + 0.1 * r if key.endswith(".weight") else 0.05 * r


def kernel(key: str) -> tuple[float, tuple[int, ...]]:
    """The gain of a convolution, and the dimensions whose mean is taken off."""
    table: dict[str, tuple[float, tuple[int, ...]]] = {
        "bbox_head.conv_cls.weight": (1, (2, 3)),
        "bbox_head.conv_reg.weight": (0.1, (1, 2, 3)),
        "bbox_head.conv_coeff.weight": (0.1, (1, 2, 3)),
        "mask_head.protonet.10.weight": (0.5, (1, 2, 3)),
        "mask_head.segm_branch.segm_conv.weight": (0.05, (1, 2, 3)),
        "neck.fpn_convs.1.conv.weight": (1.5, ()),
        "neck.fpn_convs.2.conv.weight": (4, ()),
        "neck.fpn_convs.3.conv.weight": (4, ()),
        "mask_head.protonet.8.weight": (30, (2, 3)),
    }
    return table.get(key, (1.0 if key.startswith("neck.") else 2.0, ()))


def build(state: dict[str, Tensor]) -> Yolact:
    model = Yolact(MODEL)
    named = {name: state[source_names(name)[0]] for name in model.state_dict() if not name.endswith(COUNTER)}
    assert not model.load_state_dict(named, strict=False).unexpected_keys
    return model


def normalise(picture: NDArray[np.uint8]) -> Tensor:
    """(h, w, 3) → (1, 3, h, w)."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return ((torch.from_numpy(picture).permute(2, 0, 1).float() - mean) / std)[None]


def read_json(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / name).read_text())
    return found

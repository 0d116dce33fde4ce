"""The formulas that fill the weights of RTMDet-Ins, as ../shared/reference/rtmdet_ins/README.md gives them."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Weights(NamedTuple):
    """A set of weights. gain: of most convolutions. class_biases: one for each level."""

    size: str
    gain: float
    class_biases: tuple[float, float, float]
    prefix: str = ""


SETS = {
    "tiny": Weights("tiny", 1.85, (-13.1, -12.9, -11.4)),
    "s": Weights("s", 1.84, (-13.0, -15.3, -16.3)),
    "m": Weights("m", 1.72, (-8.8, -11.2, -9.8)),
    "l": Weights("l", 1.66, (-15.5, -14.2, -12.2)),
    "x": Weights("x", 1.57, (-17.0, -11.4, -8.5)),
    "tiny_thin": Weights("tiny", 1.85, (-4.0, -4.0, -4.0)),
    "tiny_640": Weights("tiny", 1.80, (-19.3, -18.5, -17.0)),
    "tiny_t": Weights("tiny", 1.80, (-5.0, -5.0, -5.0), "t"),
}
SIZES = ("tiny", "s", "m", "l", "x")
LEVEL = re.compile(r"rtm_cls\.(\d)\.bias$")


class Key(NamedTuple):
    """A row of the list of published tensors. alias: name of the same tensor, or None. total, length: sum and L2."""

    name: str
    shape: tuple[int, ...]
    alias: str | None
    total: float | None
    length: float | None


def read_keys(folder: Path) -> dict[str, list[Key]]:
    rows: dict[str, Any] = json.loads(gzip.decompress((folder / "keys.json.gz").read_bytes()))
    return {name: [Key(key, tuple(shape), *rest) for key, shape, *rest in rows[name]] for name in (*SIZES, "tiny@t")}


def canonical(key: str) -> str:
    key = key.replace("bbox_head.reg_convs.", "bbox_head.cls_convs.")
    return re.sub(r"(bbox_head\.cls_convs)\.\d\.(\d)\.conv\.weight$", r"\1.0.\2.conv.weight", key)


def formula(key: str, shape: tuple[int, ...], weights: Weights) -> Tensor:
    """The value of a tensor of floats."""
    key = canonical(key)
    generator = torch.Generator().manual_seed(zlib.crc32((weights.prefix + key).encode()))
    r = torch.randn(shape, generator=generator)
    return vector(key, r, weights) if r.ndim == 1 else kernel(key, r, weights)


def vector(key: str, r: Tensor, weights: Weights) -> Tensor:
    level = LEVEL.search(key)
    if level:
        return weights.class_biases[int(level[1])] + r
    if key.endswith("running_var"):
        return (0.2 * r).exp()
    if key.endswith("bn.weight"):
        return 1 + 0.1 * r
    if key.endswith("attention.fc.bias"):
        return 0.5 * r
    if "rtm_reg" in key:
        return 2.5 + 0.5 * r
    return 0.1 * r


def kernel(key: str, r: Tensor, weights: Weights) -> Tensor:
    s = r[0].numel() ** -0.5
    gains = {
        "rtm_cls": 1.0,
        "rtm_reg": 0.8,
        "rtm_kernel": 0.6,
        "attention.fc": 1.0,
        "fusion_conv": 1.0,
        "projection": 1.0,
    }
    for part, gain in gains.items():
        if part in key:
            return gain * s * r
    if r.shape[1] == 1:
        return 1.5 * s * r
    return weights.gain * s * (r - r.mean((1, 2, 3), keepdim=True))

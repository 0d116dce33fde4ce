"""The formulas that fill the weights of BlendMask and MEInst, as ../shared/reference/blendmask/README.md gives them."""

from __future__ import annotations

import ast
import math
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

REFERENCE = Path(__file__).parents[4] / "shared" / "reference"
FOLDERS = {"BlendMask": REFERENCE / "blendmask", "MEInst": REFERENCE / "meinst"}
MATRIX = FOLDERS["MEInst"] / "coco_2017_train_class_agnosticTrue_whitenTrue_sigmoidTrue_60.npz"
PARTS = {"components": "components_c", "explained_variances": "explained_variance_c", "means": "mean_c"}
SKIP = pytest.mark.skipif(not MATRIX.is_file(), reason=f"recorded outputs of the published program not at {REFERENCE}")


@cache
def state_of(method: str, name: str) -> dict[str, Tensor]:
    """The state dict of a published configuration, filled by the formula."""
    rows = [line.split("\t") for line in (FOLDERS[method] / "keys" / f"{name}.txt").read_text().splitlines()]
    return {
        key: value(key, ast.literal_eval(shape)) if dtype == "float32" else torch.zeros((), dtype=torch.int64)
        for key, shape, dtype, *_ in rows
        if not key.startswith("#")
    }


def value(key: str, shape: tuple[int, ...]) -> Tensor:
    if ".mask_encoding." in key:
        return torch.from_numpy(np.load(MATRIX)[PARTS[key.rpartition(".")[2]]][0])
    generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
    if key.endswith(".running_var"):
        return 1 + 0.2 * torch.rand(shape, generator=generator)
    r = torch.randn(shape, generator=generator)
    return next(rule() for matches, rule in rules(key, r) if matches)


def rules(key: str, r: Tensor) -> list[tuple[bool, Callable[[], Tensor]]]:
    fan_in = math.prod(r.shape[1:4])
    head, _, name = key.rpartition("_head.")
    heads = head in {"proposal_generator.fcos", "proposal_generator.MEInst"}
    bases, convolution = key.startswith("basis_module.tower."), r.ndim == 4
    predicts = heads and name in {"cls_logits.weight", "bbox_pred.weight", "mask_pred.weight"}
    return [
        (key.endswith(".running_mean"), lambda: 0.1 * r),
        (key.endswith(("stem.conv1.weight", "base_layer.0.weight")), lambda: 0.01 * math.sqrt(2 / fan_in) * r),
        (key.endswith(".conv3.norm.weight"), lambda: 0.3 * (1 + 0.1 * r)),
        (predicts or key == "top_layer.weight", lambda: 1.44 / math.sqrt(fan_in) * r),
        (heads and name == "cls_logits.bias", lambda: -5 + 0.1 * r),
        (heads and name == "bbox_pred.bias", lambda: 3 + 0.1 * r),
        (heads and name == "ctrness.weight", lambda: 0.96 / math.sqrt(fan_in) * r),
        (
            bases and convolution and r.shape[-1] == 1,
            lambda: (r - r.mean(dim=(1, 2, 3), keepdim=True)) / math.sqrt(fan_in),
        ),
        (bases and key.endswith("bias") and key.count(".") == 3, lambda: -1 + 0.1 * r),
        (
            ".fcos_head.share_tower." in key and key.endswith(".weight") and key.count(".") == 5,
            lambda: 0.58 * (1 + 0.1 * r),
        ),
        (convolution, lambda: math.sqrt(2 / fan_in) * r),
        (key.endswith("bias"), lambda: 0.1 * r),
        (True, lambda: 1 + 0.1 * r),
    ]

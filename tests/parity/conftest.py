"""The formulas that fill the weights of the published models, as ../shared/reference/README.md gives them."""

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

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"
HEAD = "proposal_generator.fcos_head."
State = dict[str, Tensor]


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of recorded outputs."""
    if not REFERENCE.is_dir():
        pytest.skip(f"recorded outputs of the published programs are not at {REFERENCE}")
    return REFERENCE


@pytest.fixture(scope="session")
def adelaidet_state(reference: Path) -> Callable[[str], State]:
    """Name of a published configuration → its state dict, filled by the formula."""
    return cache(lambda name: fill(reference / "keys" / f"{name}.txt", adelaidet_value))


@pytest.fixture(scope="session")
def mmdetection_state(reference: Path) -> State:
    return fill(reference / "mmdetection" / "keys.txt", mmdetection_value)


def fill(keys: Path, value: Callable[[str, tuple[int, ...]], Tensor]) -> State:
    rows = [line.split("\t") for line in keys.read_text().splitlines() if not line.startswith("#")]
    state = {}
    for key, shape_text, dtype, *_ in rows:
        shape = ast.literal_eval(shape_text)
        state[key] = value(key, shape) if dtype == "float32" else torch.zeros(shape, dtype=torch.int64)
    return state


def adelaidet_value(key: str, shape: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
    if key == "mask_head._iter":
        return torch.zeros(shape)
    if key.endswith(".running_var"):
        return 1 + 0.2 * torch.rand(shape, generator=generator)
    r = torch.randn(shape, generator=generator)
    fan_in = math.prod(shape[1:4])
    if key == "controller.bias":
        r[-1] -= 10
        return r
    rules: list[tuple[bool, Callable[[], Tensor]]] = [
        (key.endswith(".running_mean"), lambda: 0.1 * r),
        (key.endswith("stem.conv1.weight"), lambda: 0.01 * math.sqrt(2 / fan_in) * r),
        (key.endswith(".conv3.norm.weight"), lambda: 0.3 * (1 + 0.1 * r)),
        (key == f"{HEAD}cls_logits.weight", lambda: 1.44 / math.sqrt(fan_in) * r),
        (key == f"{HEAD}cls_logits.bias", lambda: -5 + 0.1 * r),
        (key == f"{HEAD}bbox_pred.weight", lambda: 1.44 / math.sqrt(fan_in) * r),
        (key == f"{HEAD}bbox_pred.bias", lambda: 3 + 0.1 * r),
        (key == f"{HEAD}ctrness.weight", lambda: 0.96 / math.sqrt(fan_in) * r),
        (key == "controller.weight", lambda: 1.44 / math.sqrt(fan_in) * r),
        (key == "mask_branch.tower.4.weight", lambda: 0.2 * math.sqrt(2 / fan_in) * r),
        (".outputs_f" in key and len(shape) == 4, lambda: 1.6 * math.sqrt(2 / fan_in) * r),
        (len(shape) == 4, lambda: math.sqrt(2 / fan_in) * r),
        (key.endswith("bias"), lambda: 0.1 * r),
        (True, lambda: 1 + 0.1 * r),
    ]
    return next(rule() for matches, rule in rules if matches)


def mmdetection_value(key: str, shape: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
    r = torch.randn(shape, generator=generator)
    gains = {
        "bbox_head.conv_cls.weight": 8,
        "bbox_head.controller.weight": 4,
        "mask_head.mask_feature_head.conv_pred.weight": 0.25,
    }
    if key.endswith("running_mean"):
        return 0.1 * r
    if key.endswith("running_var"):
        return 1 + 0.1 * r.abs()
    if key.endswith(".scale"):
        return 1 + 0.1 * r
    if key in gains:
        return (r - r.mean(dim=(1, 2, 3), keepdim=True)) * math.sqrt(gains[key] / math.prod(shape[1:]))
    if len(shape) == 4:
        plain = key.startswith(("neck.", "bbox_head.conv_reg", "bbox_head.conv_centerness"))
        return r * math.sqrt((1 if plain else 2) / math.prod(shape[1:]))
    if key.endswith(".weight"):
        return (1 + 0.1 * r) * (0.25 if key.startswith("backbone") and key.endswith("bn3.weight") else 1)
    return mmdetection_bias(key, 0.05 * r)


def mmdetection_bias(key: str, bias: Tensor) -> Tensor:
    if key == "bbox_head.conv_cls.bias":
        return bias - 6
    if key == "bbox_head.conv_reg.bias":
        return bias + 3
    if key == "bbox_head.controller.bias":
        bias = 4 * bias
        bias[168] -= 12
    return bias


@pytest.fixture
def record_property(record_property: Callable[[str, object], None]) -> Callable[[str, object], None]:
    """pytest's own, also for numbers of numpy, which the workers of pytest-xdist cannot send to each other."""

    def record(name: str, value: object) -> None:
        record_property(name, value.item() if isinstance(value, np.generic) else value)

    return record

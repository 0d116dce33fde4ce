"""The network of mmdetection's YOLACT, its weights filled by formula, stage by stage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from condinst.model.yolact import Yolact, YolactOutput
from condinst.ops.anchors import make_anchors
from condinst.weights.published.yolact import source_names
from tests.parity.yolact_formula import COUNTER, MODEL, build, fill, normalise, read_json, read_keys

Note = Callable[[str, object], None]
MOST = 1e-5  # relative l2


class Run(NamedTuple):
    arrays: Any
    features: list[Tensor]
    pyramid: tuple[Tensor, ...]
    output: YolactOutput


@pytest.fixture(scope="module")
def folder(reference: Path) -> Path:
    return reference / "yolact"


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    arrays = np.load(folder / "yolact__inference.npz")
    model = build(fill(folder)).eval()
    with torch.inference_mode():
        images = normalise(arrays["image_rgb_u8"])
        features = model.backbone(images)
        return Run(arrays, features, model.fpn(features), model(images))


def test_weights_are_the_recorded_ones(folder: Path) -> None:
    sums = read_json(folder, "yolact__weight_sums.json")
    state = fill(folder)
    for key, (total, magnitude) in sums.items():
        values = state[key].double()
        assert float(values.sum()) == pytest.approx(total, rel=1e-6, abs=1e-5 * magnitude), key
        assert float(values.abs().sum()) == pytest.approx(magnitude, rel=1e-6), key


def test_tensors_have_the_published_names_and_shapes(folder: Path) -> None:
    with torch.device("meta"):
        state = Yolact(MODEL).state_dict()
    own = {name: tuple(tensor.shape) for name, tensor in state.items() if not name.endswith(COUNTER)}
    assert {source_names(name)[0]: shape for name, shape in own.items()} == read_keys(folder)
    assert sum(tensor.numel() for tensor in Yolact(MODEL).parameters()) == 35_293_711


def test_maps(run: Run, record_property: Note) -> None:
    maps = {f"c{level}": one for level, one in enumerate(run.features, start=3)}
    maps |= {f"p{level}": one for level, one in enumerate(run.pyramid, start=3)}
    for name, levels in zip(("cls_logits", "bbox_pred", "coeff"), run.output.head, strict=True):
        maps |= {f"{name}.{level}": one for level, one in enumerate(levels)}
    found = {name: largest_deviation(run.arrays, name, one) for name, one in maps.items()}
    found["proto"] = relative(run.output.prototypes[0].permute(1, 2, 0).numpy(), run.arrays["proto"])
    for group in ("c", "p", "cls", "bbox", "coeff", "proto"):
        record_property(group, max(deviation for name, deviation in found.items() if name.startswith(group)))
    assert max(found.values()) <= MOST, found
    assert run.output.size.tolist() == [550, 550]


def largest_deviation(arrays: Any, name: str, one: Tensor) -> float:
    """Of the recorded samples of a map, of its norm and of its means, or of the whole map."""
    mine = one.numpy()
    if name in arrays:
        return relative(mine, arrays[name])
    (sampled,) = (key for key in arrays if key.startswith(f"{name}#s") and key[-1].isdigit())
    channels, pixels = map(int, sampled.removeprefix(f"{name}#s").split("."))
    assert arrays[f"{name}#shape"].tolist() == list(mine.shape)
    norm = np.linalg.norm(mine.astype(np.float64))
    return max(
        relative(mine[:, ::channels, ::pixels, ::pixels], arrays[sampled]),
        float(abs(norm / arrays[f"{name}#stats"][2] - 1)),
        relative(mine.mean((0, 2, 3), dtype=np.float64), arrays[f"{name}#chmean"].ravel()),
    )


def relative(mine: Any, recorded: Any) -> float:
    return float(np.linalg.norm((mine - recorded).astype(np.float64)) / np.linalg.norm(recorded.astype(np.float64)))


def test_anchors(run: Run, record_property: Note) -> None:
    sizes = [(level.shape[2], level.shape[3]) for level in run.pyramid]
    anchors = make_anchors(sizes).numpy()
    counts = [3 * height * width for height, width in sizes]
    assert counts == run.arrays["anchors_per_level"].tolist()
    firsts = np.cumsum([0, *counts[:-1]])
    apart = max(
        float(np.abs(anchors[::97] - run.arrays["anchors#every97"]).max()),
        *(
            float(np.abs(anchors[first : first + 3] - base).max())
            for first, base in zip(firsts, run.arrays["base_anchors"], strict=True)
        ),
    )
    record_property("pixels", apart)
    assert apart <= 1e-4

"""The networks of the SOLO family with formula weights, stage by stage, against mmdetection's recorded maps.

The recorded properties of a test are the largest deviations, relative L2.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from condinst.methods.choose import build_network
from condinst.model.heads.solo.blocks import levels_of
from condinst.model.heads.solo.output import FixedFilters, PredictedFilters, RowsAndColumns, SoloOutput
from condinst.weights.outline import count_parameters
from condinst.weights.published.solo import source_names
from tests.parity.solo_formula import GOLDEN, Arrays, build, config_of, load, published, recorded_picture

Note = Callable[[str, object], None]
MAPS = 1e-5
NAMES = list(GOLDEN)


class Stages(NamedTuple):
    """What the network makes of the recorded picture, by the recorded names, and its output."""

    maps: dict[str, Tensor]
    output: SoloOutput
    recorded: Arrays


@pytest.fixture(scope="module")
def stages_of(reference: Path) -> Callable[[str], Stages]:
    @cache
    def run(name: str) -> Stages:
        model = build(reference, name)
        with torch.no_grad():
            features = model.backbone(recorded_picture(reference, name).tensor)
            pyramid = model.fpn(features)
            output = model.head(pyramid)
        maps = {f"c{level}": one for level, one in enumerate(features, 2)}
        maps |= {f"p{level}": one for level, one in enumerate(pyramid, 2)}
        maps |= {"r0": levels_of(pyramid)[0], "r4": levels_of(pyramid)[4]}
        return Stages(maps | outputs(output), output, load(reference, name, "inference"))

    return run


def outputs(output: SoloOutput) -> dict[str, Tensor]:
    named = {f"cls_logits.{level}": one for level, one in enumerate(output.class_logits)}
    masks = output.masks
    if isinstance(masks, PredictedFilters):
        named["mask_feats"] = masks.maps
        return named | {f"kernel.{level}": one for level, one in enumerate(masks.filters)}
    if isinstance(masks, RowsAndColumns):
        named |= {f"mask_logits_y.{level}": one for level, one in enumerate(masks.rows)}
        named |= {f"mask_logits_x.{level}": one for level, one in enumerate(masks.columns)}
        for axis, levels in (("y", masks.rows), ("x", masks.columns)):
            named |= {f"mask_prob_{axis}.{level}": enlarged(one.sigmoid(), masks) for level, one in enumerate(levels)}
        return named
    for level in range(5):
        cells = torch.arange(len(masks.biases[level]))
        drawn = masks.probabilities(level, 0, cells)
        named[f"mask_logits.{level}"] = drawn.double().logit().float()[None]
        named[f"mask_prob.{level}"] = masks.probabilities(level, 0, cells, masks.size)[None]
    return named


def enlarged(maps: Tensor, masks: RowsAndColumns) -> Tensor:
    return torch.nn.functional.interpolate(maps, masks.size, mode="bilinear", align_corners=False)


def apart(found: Tensor, recorded: Arrays, key: str) -> float:
    """The deviation, relative L2: of a sample, of a whole map, or of its length and of the means of its channels."""
    part = key.partition("#")[2]
    if part == "stats":
        length = float(found.double().norm())
        return abs(length - recorded[key][2]) / recorded[key][2]
    if part == "chmean":
        found = found.double().mean((0, 2, 3))
    elif part.startswith("s"):
        channels, side = (int(step) for step in part[1:].split("."))
        found = found[:, ::channels, ::side, ::side]
    elif part == "patch":
        found = found[..., 20:36, 40:56]
    expected = torch.from_numpy(recorded[key]).double()
    return float((found.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_filled(reference: Path, name: str) -> None:
    golden = GOLDEN[name]
    sums = json.loads((reference / golden.folder / f"{name}__weight_sums.json").read_text())
    state = published(reference, name)
    assert {key for key in state if not key.endswith("num_batches_tracked")} == sums.keys()
    for key, (total, magnitude) in sums.items():
        assert float(state[key].double().sum()) == pytest.approx(total, abs=1e-5 * magnitude)
        assert float(state[key].double().abs().sum()) == pytest.approx(magnitude, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_names_and_shapes(reference: Path, name: str) -> None:
    state, counts = published(reference, name), count_parameters(config_of(name).model)
    with torch.device("meta"):
        own = build_network(config_of(name).model).state_dict()
    assert {source_names(key)[0]: tensor.shape for key, tensor in own.items()} == {
        key: tensor.shape for key, tensor in state.items()
    }
    assert (counts["total"], counts["pyramid"]) == (GOLDEN[name].parameters, 3_344_384)


@pytest.mark.parametrize("name", NAMES)
def test_maps(stages_of: Callable[[str], Stages], name: str, record_property: Note) -> None:
    maps, _, recorded = stages_of(name)
    seen = set()
    worst: dict[str, float] = {}
    for key in recorded:
        stage, _, part = key.partition("#")
        if stage not in maps:
            continue
        if part == "shape":
            assert tuple(maps[stage].shape) == tuple(recorded[key])
            continue
        kind = stage.split(".")[0]
        # the means of channels are small beside the values, so they are compared with the length of the map
        deviation = apart(maps[stage], recorded, key)
        limit = 1e-4 if part == "chmean" else MAPS
        assert deviation <= limit, (key, deviation)
        seen.add(stage)
        if part != "chmean":
            worst[kind] = max(worst.get(kind, 0), deviation)
    assert seen == maps.keys()
    for kind, value in worst.items():
        record_property(kind, value)


def test_the_dynamic_convolution_alone(stages_of: Callable[[str], Stages], record_property: Note) -> None:
    """From the recorded filters and features of a patch to the recorded probabilities."""
    recorded = stages_of("solov2").recorded
    features, filters = (torch.from_numpy(recorded[key]) for key in ("mask_feats#patch", "cand_kernels"))
    masks = PredictedFilters(features, (filters.T[None, :, :, None].reshape(1, 256, 8, 8),))
    found = masks.probabilities(0, 0, torch.arange(64)).numpy()
    deviation = np.abs(found - recorded["cand_prob#patch"]).max()
    record_property("probability", float(deviation))
    assert deviation <= 1e-5


def test_all_kinds_of_masks(stages_of: Callable[[str], Stages]) -> None:
    kinds = [type(stages_of(name).output.masks) for name in ("solo", "decoupled", "solov2")]
    assert kinds == [FixedFilters, RowsAndColumns, PredictedFilters]

"""The published program's recorded positives and sampled masks of one training batch, from the same polygons."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from condinst.data.sample import Instance, Polygons, Sample
from condinst.data.truth import draw_truth
from condinst.ops.bitmaps.packed_masks import unpack
from condinst.ops.locations import level_locations
from condinst.settings.model import ModelConfig
from condinst.settings.training import TargetConfig
from condinst.structures import STRIDES, Targets
from condinst.training.targets import assign, measure_norms

GOLDEN = Path(__file__).parents[3] / "shared" / "reference" / "training"
CLASSES = 80
PADDED = (256, 320)
LEVELS = [(PADDED[0] // stride or 1, -(-PADDED[1] // stride)) for stride in STRIDES]

pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"recorded outputs not at {GOLDEN}")


def read_sample(record: dict[str, object], has_masks: bool) -> Sample:
    instances = []
    for number, thing in enumerate(record["objects"]):  # type: ignore[arg-type, var-annotated]
        parts = tuple(np.array(part).reshape(-1, 2) for part in thing["polygons"])
        corners = np.concatenate(parts)
        box = (*corners.min(0).tolist(), *corners.max(0).tolist())
        instances.append(Instance(thing["cls"], box, Polygons(parts) if has_masks else None, False, number))
    return Sample(Path("recorded"), 0, int(record["W"]), int(record["H"]), tuple(instances))  # type: ignore[call-overload]


@cache
def assigned(has_masks: bool) -> Targets:
    records = json.loads((GOLDEN / "train.json").read_text())["_batch"]
    samples = [read_sample(record, has_masks) for record in records]
    identity = np.array([[1.0, 0, 0], [0, 1, 0]])
    truths = tuple(draw_truth(sample, identity, sample.height, sample.width, 4) for sample in samples)
    settings = ModelConfig()
    return assign(truths, LEVELS, settings.size_ranges, CLASSES, TargetConfig().center_radius)


def places() -> tuple[Tensor, Tensor]:
    """Level and pixel position of every location."""
    grids = [level_locations(*size, stride) for size, stride in zip(LEVELS, STRIDES, strict=True)]
    levels = torch.cat([torch.full((len(grid),), level) for level, grid in enumerate(grids)])
    return levels, torch.cat(grids)


# the published program's positives: around the masks' centroids, or around the boxes' centres where it had no masks
CASES = [
    ("CondInst_R50", 64),
    ("CondInst_R50_sem", 64),
    ("CondInst_R50_BiFPN", 64),
    ("BoxInst_R50", 61),
    ("BoxInst_R50_BiFPN_warm", 61),
]


def targets_of(case: str) -> Targets:
    return assigned(has_masks=case.startswith("CondInst"))


@pytest.mark.parametrize(("case", "count"), CASES)
def test_positives(case: str, count: int) -> None:
    targets = targets_of(case)
    recorded = np.load(GOLDEN / f"train_{case}.npz")
    image, location = (targets.instance_index >= 0).nonzero(as_tuple=True)
    levels, points = places()
    mine = {
        (i, int(levels[at]), *points[at].tolist()): (i, at)
        for i, at in zip(image.tolist(), location.tolist(), strict=True)
    }
    names = ("im_inds", "fpn_levels", "locations")
    theirs = [
        (i, level, *point) for i, level, point in zip(*(recorded[f"pos.{n}"].tolist() for n in names), strict=True)
    ]
    assert len(theirs) == count
    assert set(mine) == set(theirs)
    at = tuple(torch.tensor([mine[key] for key in theirs]).T)
    assert targets.instance_index[at].tolist() == recorded["pos.gt_inds"].tolist()
    assert targets.labels[at].tolist() == recorded["pos.labels"].tolist()
    assert torch.allclose(targets.distances_in_strides[at], torch.from_numpy(recorded["pos.reg_targets"]), atol=1e-6)
    assert torch.allclose(targets.quality[at], torch.from_numpy(recorded["pos.gt_ctrs"]), atol=1e-6)


@pytest.mark.parametrize(("case", "count"), CASES)
def test_positives_per_level(case: str, count: int) -> None:
    targets = targets_of(case)
    expected = json.loads((GOLDEN / "train.json").read_text())[case]["positives_per_level"]
    levels, _ = places()
    positive = (targets.instance_index >= 0).sum(dim=0)
    assert [int(positive[levels == level].sum()) for level in range(5)] == expected
    norms = measure_norms(targets)
    assert norms.positives.item() == sum(expected) == count
    assert (targets.labels < CLASSES).sum() == sum(expected)


@pytest.mark.parametrize("case", ["CondInst_R50", "BoxInst_R50"])
def test_masks(case: str) -> None:
    """Without masks, the filled boxes."""
    recorded = np.load(GOLDEN / f"train_{case}.npz")["gt_bitmasks"]
    expected = np.unpackbits(recorded).reshape(6, PADDED[0] // 4, PADDED[1] // 4)
    targets = targets_of(case)
    masks = unpack(targets.mask_pixels, targets.mask_places, torch.arange(6), expected.shape[1:])
    assert np.array_equal(masks.numpy(), expected)
    assert targets.has_mask.tolist() == [case.startswith("CondInst")] * 6

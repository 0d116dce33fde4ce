"""mmdetection's published CondInst, its weights filled by formula: from the picture to the masks, stage by stage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from condinst.config import Config
from condinst.data.batch import make_images
from condinst.inference.assemble import assemble
from condinst.inference.detect import detect, take
from condinst.inference.logits import draw_logits
from condinst.inference.result import Result
from condinst.model.condinst import CondInst, filter_layout
from condinst.ops.dynamic_mask_head import dynamic_mask_head
from condinst.structures import STRIDES, Detections, Images, NetworkOutput
from condinst.weights.published.convert import read_published

Note = Callable[[str, object], None]


class Run(NamedTuple):
    """What ours makes of the recorded picture, and what was recorded. found: in the recorded order."""

    arrays: Any
    config: Config
    images: Images
    features: list[Tensor]
    pyramid: tuple[Tensor, ...]
    output: NetworkOutput
    found: Detections


@pytest.fixture(scope="module")
def run(reference: Path, mmdetection_state: dict[str, Tensor]) -> Run:
    arrays = np.load(reference / "mmdetection" / "golden.npz")
    config, tensors = read_published(mmdetection_state, "mmdetection")
    model = CondInst(config.model).eval()
    model.load_state_dict(tensors)
    picture = np.ascontiguousarray(arrays["input_u8"].transpose(1, 2, 0))
    shape = config.model
    images = make_images([picture], [picture.shape[:2]], shape.pixel_mean, shape.pixel_std, shape.channel_order, 32)
    with torch.inference_mode():
        features = model.backbone(images.tensor)
        pyramid = model.fpn(features)
        output = NetworkOutput(model.head(pyramid), model.mask_branch(pyramid), None)
        (found,) = detect(output, config.model, config.detect)
    return Run(arrays, config, images, features, pyramid, output, take(found, torch.tensor(order(found, arrays))))


def order(found: Detections, arrays: Any) -> list[int]:
    """Where each recorded detection is among ours, by class, location and level."""
    strides = torch.tensor(STRIDES)[found.levels]
    ours = zip(found.labels.tolist(), found.locations.tolist(), strides.tolist(), strict=True)
    places = {(label, *location, stride): row for row, (label, location, stride) in enumerate(ours)}
    names = ("labels", "det_points", "det_strides")
    theirs = zip(*(arrays[name].tolist() for name in names), strict=True)
    rows = [places[(label, *point, stride)] for label, point, stride in theirs]
    assert sorted(rows) == list(range(len(found.scores)))
    return rows


def deviation(mine: Tensor, theirs: NDArray[Any]) -> float:
    """Largest difference over the largest magnitude."""
    assert tuple(mine.shape) == theirs.shape
    largest = float(np.abs(mine.numpy() - theirs).max() / np.abs(theirs).max())
    assert np.isfinite(largest)
    return largest


def test_maps(run: Run, record_property: Note) -> None:
    arrays = run.arrays
    found = {"input": deviation(run.images.tensor, arrays["input"])}
    for level, one in zip((3, 4, 5), run.features, strict=True):
        found[f"backbone C{level}"] = deviation(one[0, :4], arrays[f"c{level}_chan0_3"])
    for level, one in zip(range(3, 8), run.pyramid, strict=True):
        recorded = arrays[f"p{level}"]
        found[f"pyramid P{level}"] = deviation(one[0, : len(recorded)], recorded)
    for name, maps in zip(("cls_score", "bbox_pred", "centerness", "param_pred"), run.output.head, strict=True):
        for level, (one, stride) in enumerate(zip(maps, STRIDES, strict=True)):
            pixels = stride if name == "bbox_pred" else 1
            found[f"head {name} {level}"] = deviation(one[0] * pixels, arrays[f"{name}_{level}"])
    found["mask features"] = deviation(run.output.mask_features[0], arrays["mask_feats"])
    for group in ("input", "backbone", "pyramid", "head", "mask"):
        record_property(group, max(value for name, value in found.items() if name.startswith(group)))
    assert max(found.values()) <= 1e-4, found


def test_detections_and_mask_logits(run: Run, record_property: Note) -> None:
    found, arrays = run.found, run.arrays
    model = run.config.model
    logits = dynamic_mask_head(
        run.output.mask_features,
        found.filters,
        torch.zeros_like(found.levels),
        found.locations,
        torch.tensor(model.coordinate_scales)[found.levels],
        filter_layout(model),
        model.mask_head.coordinates,
        model.mask_head.mask_out_stride,
    )
    apart = {
        "scores": float((found.scores - torch.from_numpy(arrays["scores"])).abs().max()),
        "filters": deviation(found.filters, arrays["det_params"]),
        "mask logits": deviation(logits, arrays["mask_logits_stride4"]),
    }
    for name, value in apart.items():
        record_property(name, value)
    assert max(apart.values()) <= 1e-4, apart


@pytest.mark.parametrize(
    ("prefix", "content", "original"),
    [
        ("", (256, 320), (256, 320)),
        ("ori400x500_", (256, 320), (400, 500)),
        ("pad250x301_", (250, 301), (250, 301)),
    ],
    ids=["same size", "400x500", "padded"],
)
def test_results(
    run: Run, prefix: str, content: tuple[int, int], original: tuple[int, int], record_property: Note
) -> None:
    images = run.images._replace(sizes=(content,), original_sizes=(original,))
    with torch.inference_mode():
        (result,) = assemble(run.output, [run.found], images, draw_logits, run.config)
    boxes, smallest = compare(result, run.arrays, prefix)
    record_property(f"boxes {prefix}", boxes)
    record_property(f"smallest mask IoU {prefix}", smallest)
    assert boxes <= 5e-3
    assert smallest >= 0.998


def compare(result: Result, arrays: Any, prefix: str) -> tuple[float, float]:
    """Largest difference of the boxes in pixels, smallest IoU of the masks."""
    rows = match(result, arrays, prefix)
    count, height, width = arrays[f"{prefix}masks_shape"]
    recorded = np.unpackbits(arrays[f"{prefix}masks_packed"], axis=-1)[:, :, :width].astype(bool)
    masks = result.masks.data.numpy()[rows]
    assert masks.shape == recorded.shape == (count, height, width)
    both, either = (masks & recorded).sum((1, 2)), (masks | recorded).sum((1, 2))
    overlaps = np.where(either > 0, both / np.maximum(either, 1), 1.0)
    boxes = float(np.abs(result.boxes.xyxy.numpy()[rows] - arrays[f"{prefix}boxes"]).max())
    return boxes, float(overlaps.min())


def match(result: Result, arrays: Any, prefix: str) -> list[int]:
    """Where each recorded result is among ours: the nearest box of its class; each is used once."""
    labels = arrays["pad250x301_labels" if prefix.startswith("pad") else "labels"]
    distance = np.abs(result.boxes.xyxy.numpy()[None] - arrays[f"{prefix}boxes"][:, None]).max(-1)
    distance[result.boxes.cls.numpy()[None] != labels[:, None]] = np.inf
    rows = distance.argmin(1).tolist()
    assert sorted(rows) == list(range(len(result)))
    return rows

"""The published models, their weights filled by formula: from the picture to the masks, stage by stage.

The recorded numbers lie in ../shared/reference/inference; each test's largest deviations are its recorded properties.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pycocotools import mask as oracle
from torch import Tensor

from condinst.config import Config
from condinst.data.batch import make_images
from condinst.data.pictures.image import read_image
from condinst.data.transforms import resize_image, resize_shape
from condinst.inference.assemble import assemble
from condinst.inference.detect import detect, take
from condinst.inference.logits import draw_logits
from condinst.inference.network import make_network
from condinst.inference.result import Result
from condinst.model.condinst import CondInst, filter_layout
from condinst.ops.dynamic_mask_head import dynamic_mask_head
from condinst.structures import Detections, Images, NetworkOutput
from condinst.weights.published.convert import read_published

R50 = "CondInst_MS_R_50_1x"
SLOW = pytest.mark.slow
EXACT = "exact:"  # by the network that `Predictor(mode="exact")` runs, with norms folded and channels last
CASES = [
    pytest.param(f"{R50}__s256", id="r50"),
    pytest.param(f"{R50}__s256_alllevels", id="r50-alllevels"),
    pytest.param(f"{R50}__s256_batch2mixed", id="r50-batch2mixed"),
    pytest.param(f"{EXACT}{R50}__s256", id="r50-exact"),
    pytest.param(f"{EXACT}{R50}__s800", id="r50-s800-exact", marks=SLOW),
    pytest.param(f"{R50}__s800", id="r50-s800", marks=SLOW),
    pytest.param("CondInst_MS_R_101_3x__s256", id="r101", marks=SLOW),
    pytest.param("CondInst_MS_R_50_BiFPN_3x_sem__s256", id="bifpn-sem"),
    pytest.param(f"{EXACT}CondInst_MS_R_50_BiFPN_3x_sem__s256", id="bifpn-sem-exact"),
    pytest.param("BoxInst_MS_R_50_1x__s256", id="boxinst-r50", marks=SLOW),
    pytest.param("BoxInst_MS_R_50_BiFPN_1x__s256", id="boxinst-bifpn", marks=SLOW),
]
LEVELS = range(3, 8)
Note = Callable[[str, object], None]


class Run(NamedTuple):
    """What ours makes of a case, and what was recorded of it."""

    arrays: Any
    recorded: dict[str, Any]
    images: Images
    config: Config
    pyramid: tuple[Tensor, ...]
    features: list[Tensor]
    output: NetworkOutput
    found: list[Detections]
    results: list[Result]


@pytest.fixture(scope="module")
def network(adelaidet_state: Callable[[str], dict[str, Tensor]]) -> Callable[[str], tuple[CondInst, Config]]:
    """A published configuration's model; the last one is kept."""
    kept: dict[str, tuple[CondInst, Config]] = {}

    def build(name: str) -> tuple[CondInst, Config]:
        if name not in kept:
            kept.clear()
            published = read_published(adelaidet_state(name), name)
            model = CondInst(published.config.model).eval()
            model.load_state_dict(published.tensors)
            kept[name] = model, published.config
        return kept[name]

    return build


@pytest.fixture(scope="module", params=CASES)
def run(request: pytest.FixtureRequest, reference: Path, network: Callable[[str], tuple[CondInst, Config]]) -> Run:
    name = request.param.removeprefix(EXACT)
    model, config = network(name.split("__")[0])
    controller = None
    if name != request.param:
        prepared = make_network(model, "exact", torch.device("cpu"), 32)
        assert isinstance(prepared.module, CondInst)
        model, controller = prepared.module, prepared.controller
    if "alllevels" in name:
        config = config.with_overrides(["detect.candidates_per_level=30", "detect.score_threshold=0.02"])
    recorded = json.loads((reference / "inference" / f"{name}.json").read_text())
    picture = read_image(reference.parent / recorded["image"])
    pictures = [picture, np.ascontiguousarray(picture[:, :360])] if "batch2" in name else [picture]
    with torch.inference_mode():
        images = prepare(pictures, config, 800 if "s800" in name else 256)
        features = model.backbone(images.tensor.contiguous(memory_format=torch.channels_last))
        pyramid = model.fpn(features)
        output = NetworkOutput(model.head(pyramid), model.mask_branch(pyramid), None, controller)
        found = detect(output, config.model, config.detect)
        results = assemble(output, found, images, draw_logits, config)
    arrays = np.load(reference / "inference" / f"{name}.npz")
    return Run(arrays, recorded, images, config, pyramid, features, everywhere(output), found, results)


def everywhere(output: NetworkOutput) -> NetworkOutput:
    """The output with the filters of all locations, which prediction leaves out."""
    if output.controller is None:
        return output
    weight, bias = output.controller
    kernel = weight.reshape(3, 3, -1, weight.shape[1]).permute(3, 2, 0, 1)
    filters = tuple(F.conv2d(level, kernel, bias, padding=1) for level in output.head.filters)
    return output._replace(head=output.head._replace(filters=filters), controller=None)


def prepare(pictures: list[NDArray[np.uint8]], config: Config, shorter: int) -> Images:
    model = config.model
    sizes = [(picture.shape[0], picture.shape[1]) for picture in pictures]
    shapes = [resize_shape(*size, shorter, config.input.longer) for size in sizes]
    resized = [resize_image(picture, *shape) for picture, shape in zip(pictures, shapes, strict=True)]
    return make_images(resized, sizes, model.pixel_mean, model.pixel_std, model.channel_order, model.size_divisor)


def deviation(run: Run, name: str, mine: Tensor, maps: bool = True) -> float:
    """Largest difference from what was recorded of a map (`maps`: not only its numbers), over its largest magnitude."""
    arrays = run.arrays
    largest = float(arrays[f"{name}#stats"][3])
    assert largest > 0
    double = mine.double()
    numbers = torch.stack([double.mean(), double.std(correction=0), double.abs().max()])
    found = [(numbers, arrays[f"{name}#stats"][[0, 1, 3]]), (double.mean(dim=(2, 3)), arrays[f"{name}#chmean"])]
    if maps and name in arrays:
        found.append((mine, arrays[name]))
    elif maps and f"{name}#sub8" in arrays:
        found.append((mine[:, ::4, ::8, ::8], arrays[f"{name}#sub8"]))
    return max(difference(one, other) for one, other in found) / largest


def difference(mine: Tensor, theirs: NDArray[Any]) -> float:
    assert tuple(mine.shape) == theirs.shape
    largest = float((mine - torch.from_numpy(theirs)).abs().max())
    assert math.isfinite(largest)
    return largest


def order(run: Run, image: int) -> list[int]:
    """Where each recorded detection is among ours: by class, location and level, since ranks lie too close together."""
    found, prefix = run.found[image], f"prop{image}"
    levels = run.arrays[f"{prefix}.fpn_levels"]
    theirs = zip(
        run.arrays[f"{prefix}.classes"].tolist(),
        run.arrays[f"{prefix}.locations"].tolist(),
        levels.tolist(),
        strict=True,
    )
    ours = zip(found.labels.tolist(), found.locations.tolist(), found.levels.tolist(), strict=True)
    places = {(label, *location, level): row for row, (label, location, level) in enumerate(ours)}
    rows = [places[(label, *location, level)] for label, location, level in theirs]
    assert sorted(rows) == list(range(len(found.scores)))
    return rows


def test_picture(run: Run) -> None:
    """Resizing equals the original's pixel for pixel; normalising and padding to rounding."""
    for image, (height, width) in enumerate(run.images.sizes):
        resized = run.arrays[f"resized{image}_bgr_uint8"]
        assert resized.shape[:2] == (height, width)
        back = run.images.tensor[image, :, :height, :width] + torch.tensor(run.config.model.pixel_mean)[:, None, None]
        assert np.array_equal(back.permute(1, 2, 0).round().to(torch.uint8).numpy(), resized)
    assert deviation(run, "input_norm", run.images.tensor) < 1e-6


def test_maps(run: Run, record_property: Note) -> None:
    stages = {f"bottom_up.res{level}": feature for level, feature in zip(range(3, 6), run.features, strict=True)}
    stages |= {f"fpn.p{level}": one for level, one in zip(LEVELS, run.pyramid, strict=True)}
    for name, maps in zip(("logits", "reg", "ctr", "top_feats"), run.output.head, strict=True):
        stages |= {f"head.{name}.p{level}": one for level, one in zip(LEVELS, maps, strict=True)}
    stages["mask_feats"] = run.output.mask_features
    deviations = {name: deviation(run, name, one) for name, one in stages.items()}
    for group in ("bottom_up", "fpn", "head.logits", "head.reg", "head.ctr", "head.top_feats", "mask_feats"):
        record_property(group, max(value for name, value in deviations.items() if name.startswith(group)))
    assert max(deviations.values()) <= 1e-4, deviations


def test_detections(run: Run, record_property: Note) -> None:
    for image, found in enumerate(run.found):
        rows = torch.tensor(order(run, image))
        sorted_found = take(found, rows)
        filters = run.arrays[f"prop{image}.top_feat"]
        deviations = {
            "boxes": difference(sorted_found.boxes, run.arrays[f"prop{image}.boxes"]),
            "scores": difference(sorted_found.scores, run.arrays[f"prop{image}.scores"]),
            "filters": difference(sorted_found.filters, filters) / float(np.abs(filters).max()),
        }
        for name, value in deviations.items():
            record_property(f"{name}, image {image}", value)
        assert deviations["boxes"] <= 5e-3
        assert deviations["scores"] <= 1e-4
        assert deviations["filters"] <= 1e-4


def test_mask_logits(run: Run, record_property: Note) -> None:
    """What was recorded is their sigmoid, so they are compared where it tells them: between 0.01 and 0.99."""
    logits = torch.cat([draw(run, image) for image in range(len(run.found))])[:, None]
    largest = float(logits.abs().max())
    summary = deviation(run, "global_masks", logits.sigmoid(), maps=False)
    record_property("mask probabilities, mean of each", summary)
    assert summary <= 1e-4
    for name, mine in (("global_masks", logits), ("global_masks#first10", logits[:10])):
        if name in run.arrays:
            recorded = torch.from_numpy(run.arrays[name]).double()
            assert mine.shape == recorded.shape
            telling = (recorded > 0.01) & (recorded < 0.99)
            apart = (mine.double() - recorded.logit())[telling].abs().max() / largest
            record_property("mask logits", float(apart))
            record_property("mask probabilities", float((mine.sigmoid() - recorded).abs().max()))
            assert telling.sum() > 1000
            assert apart <= 1e-4


def draw(run: Run, image: int) -> Tensor:
    """Mask logits (K, h, w) in the recorded order."""
    found, model = take(run.found[image], torch.tensor(order(run, image))), run.config.model
    return dynamic_mask_head(
        run.output.mask_features[image : image + 1],
        found.filters,
        torch.zeros_like(found.levels),
        found.locations,
        torch.tensor(model.coordinate_scales)[found.levels],
        filter_layout(model),
        model.mask_head.coordinates,
        model.mask_head.mask_out_stride,
    )


def test_results(run: Run, record_property: Note) -> None:
    """Boxes, scores and masks in the original picture; none is dropped, none added."""
    for image, (result, recorded) in enumerate(zip(run.results, run.recorded["results"], strict=True)):
        rows = order(run, image)
        assert len(result) == recorded["n"] == len(rows)
        boxes = difference(result.boxes.xyxy[rows], run.arrays[f"out{image}.boxes"])
        scores = difference(result.boxes.conf[rows], run.arrays[f"out{image}.scores"])
        masks = [dict(result.masks.rle[row]) for row in rows]
        assert np.array_equal(result.boxes.cls[rows].numpy(), run.arrays[f"out{image}.classes"])
        overlaps = [overlap(mine, theirs) for mine, theirs in zip(masks, recorded["rles"], strict=True)]
        record_property(f"boxes in the original, image {image}", boxes)
        record_property(f"smallest mask IoU, image {image}", min(overlaps))
        assert boxes <= 5e-3
        assert scores <= 1e-4
        assert min(overlaps) >= 0.998


def overlap(mine: dict[str, Any], theirs: dict[str, Any]) -> float:
    assert mine["size"] == theirs["size"]
    if not oracle.area(theirs) or not oracle.area(mine):
        return float(oracle.area(theirs) == oracle.area(mine))
    return float(oracle.iou([mine], [theirs], [0])[0, 0])

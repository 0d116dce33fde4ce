"""mmdetection's YOLACT, its weights filled by formula: from the maps to the masks, stage by stage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from condinst.data.batch import make_images
from condinst.data.pictures.image import read_image
from condinst.data.transforms import input_shape, resize_image
from condinst.inference.full_size import Placement
from condinst.inference.regions import place
from condinst.inference.yolact.detect import Candidates, candidates, detect_anchors
from condinst.inference.yolact.draw import draw_prototypes
from condinst.model.yolact import YolactOutput
from condinst.ops.anchors import make_anchors
from condinst.ops.bitmaps.rle import decode
from condinst.ops.boxes import scale_boxes
from condinst.ops.prototypes import mix_prototypes
from condinst.recipes import load_recipe
from condinst.structures import Detections
from tests.parity.yolact_formula import MODEL, build, fill, normalise

Note = Callable[[str, object], None]
SETTINGS = load_recipe("yolact-r50").detect


def test_input(reference: Path) -> None:
    """The picture is resized to the bit, whatever the ratio of its sides."""
    arrays = np.load(reference / "yolact" / "yolact__inference.npz")
    path = reference.parent / "data" / "coco_mini" / "images" / "000000000790.jpg"
    if not path.is_file():
        pytest.skip(f"the picture is not at {path}")
    picture, size = read_image(path), load_recipe("yolact-r50").input
    assert picture.shape[:2] == tuple(arrays["ori_shape"][:2].tolist())
    shape = input_shape(picture.shape[0], picture.shape[1], size)
    assert (resize_image(picture, *shape, size.resampling) == arrays["image_rgb_u8"]).all()
    images = make_images([arrays["image_rgb_u8"]], [shape], MODEL.pixel_mean, MODEL.pixel_std, "RGB", 1)
    assert torch.equal(images.tensor, normalise(arrays["image_rgb_u8"]))


class Run(NamedTuple):
    """found: the detections in the recorded order."""

    arrays: Any
    output: YolactOutput
    candidates: Candidates
    found: Detections


@pytest.fixture(scope="module")
def run(reference: Path) -> Run:
    folder = reference / "yolact"
    arrays = np.load(folder / "yolact__inference.npz")
    with torch.inference_mode():
        output = build(fill(folder)).eval()(normalise(arrays["image_rgb_u8"]))
        sizes = [(level.shape[2], level.shape[3]) for level in output.head.class_logits]
        anchors = make_anchors(sizes)
        chosen = candidates(output, 0, anchors, SETTINGS)
        (found,) = detect_anchors(output, MODEL, SETTINGS)
    return Run(arrays, output, chosen, Detections(*(field[order(found, arrays)] for field in found)))


def order(found: Detections, arrays: Any) -> list[int]:
    """Where each recorded detection is among ours, by class and box."""
    apart = np.abs(found.boxes.numpy()[None] - arrays["det_boxes_550"][:, None]).max(-1)
    apart[found.labels.numpy()[None] != arrays["det_labels"][:, None]] = np.inf
    rows: list[int] = apart.argmin(1).tolist()
    assert sorted(rows) == list(range(len(found.scores)))
    return rows


def test_candidates(run: Run, record_property: Note) -> None:
    """The same anchors, in any order inside a level, with the same boxes, scores and coefficients."""
    arrays, mine = run.arrays, run.candidates
    ours, theirs = mine.anchors.argsort().numpy(), arrays["cand_anchor"].argsort()
    assert mine.anchors.numpy()[ours].tolist() == arrays["cand_anchor"][theirs].tolist()
    apart = {
        "boxes": np.abs(mine.boxes.numpy()[ours] - arrays["cand_boxes"][theirs]).max(),
        "scores": np.abs(mine.scores.numpy()[ours] - arrays["cand_scores"][theirs][:, :-1]).max(),
        "coefficients": np.abs(mine.coefficients.numpy()[ours] - arrays["cand_coeffs"][theirs]).max(),
    }
    for name, value in apart.items():
        record_property(name, float(value))
    assert int((mine.scores > SETTINGS.score_threshold).sum()) == int(arrays["n_over_thr"].item())
    assert apart["boxes"] <= 1e-3
    assert apart["scores"] <= 1e-5
    assert apart["coefficients"] <= 1e-5


def test_detections(run: Run, record_property: Note) -> None:
    arrays, found = run.arrays, run.found
    assert len(found.scores) == len(arrays["det_scores"]) == 79
    apart = {
        "boxes": np.abs(found.boxes.numpy() - arrays["det_boxes_550"]).max(),
        "scores": np.abs(found.scores.numpy() - arrays["det_scores"]).max(),
        "coefficients": np.abs(found.filters.numpy() - arrays["det_coeffs"]).max(),
    }
    for name, value in apart.items():
        record_property(name, float(value))
    assert found.levels.tolist() == arrays["det_level"].tolist()
    assert apart["boxes"] <= 1e-3
    assert max(apart["scores"], apart["coefficients"]) <= 1e-5
    assert (np.diff(found.scores.numpy()) <= 1e-6).all()
    rows = run.candidates.anchors[:, None] == torch.from_numpy(arrays["det_anchor"])
    boxes = run.candidates.boxes[rows.int().argmax(0)]
    assert float((boxes - found.boxes).abs().max()) == 0  # the same anchors


def test_mask_maps(run: Run, record_property: Note) -> None:
    arrays, found = run.arrays, run.found
    whole = mix_prototypes(run.output.prototypes[0], found.filters[:3])
    apart = float(np.abs(whole.numpy() - arrays["mask_prob#first3"].reshape(whole.shape)).max())
    cut = torch.cat(list(draw_prototypes(run.output, 0, found, MODEL)))
    sums = cut.double().sum((1, 2)).numpy()
    deviation = float(np.abs(sums / arrays["mask_crop_sum"] - 1).max())
    record_property("probabilities", apart)
    record_property("sums, relative", deviation)
    assert (cut > 0).sum((1, 2)).tolist() == arrays["mask_crop_count"].tolist()
    assert apart <= 1e-5
    assert deviation <= 1e-5


def test_masks(run: Run, record_property: Note) -> None:
    arrays, found = run.arrays, run.found
    original: tuple[int, int] = tuple(arrays["ori_shape"][:2].tolist())
    placement = Placement(1, (550, 550), original, 0.5, "stretched")
    maps = torch.cat(list(draw_prototypes(run.output, 0, found, MODEL)))
    masks = np.stack([decode(rle) for rle in place(maps, placement)])
    shape = arrays["det_masks_shape"]
    recorded = np.unpackbits(arrays["det_masks_bits"], axis=-1)[..., : shape[-1]].astype(bool)
    assert recorded.shape == masks.shape == tuple(shape)
    pixels = (masks != recorded).sum((1, 2))
    record_property("largest number of differing pixels", int(pixels.max()))
    assert pixels.max() <= 2
    assert masks.sum() > 0.99 * arrays["det_area"].sum()
    boxes = float((scale_boxes(found.boxes, (550, 550), original) - as_tensor(arrays["det_boxes_ori"])).abs().max())
    record_property("boxes", boxes)
    assert boxes <= 1e-3


def as_tensor(values: Any) -> Tensor:
    return torch.from_numpy(values)

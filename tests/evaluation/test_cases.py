"""Single pictures and their annotation: hand-worked pairs, and red for errors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as reference

from condinst.data.formats.coco.read import read_coco
from condinst.data.pictures.image import read_image
from condinst.evaluation.cases import WRONG, describe, draw_panels, make_case, match, truth_of
from condinst.inference.instances.boxes import Boxes
from condinst.inference.instances.masks import Masks
from condinst.inference.result import Result
from condinst.ops.bitmaps.rle import Region, encode
from condinst.ops.drawing.palette import PALETTE

DATA = Path(__file__).parent.parent / "data"


def result_of(bitmaps: list[np.ndarray], scores: list[float], labels: list[int]) -> Result:
    height, width = bitmaps[0].shape
    masks = Masks(tuple(encode(Region(bitmap, 0, 0), height, width) for bitmap in bitmaps), (height, width))
    boxes = Boxes(torch.zeros(len(bitmaps), 4), torch.tensor(scores), torch.tensor(labels), (height, width))
    return Result(boxes, masks, {0: "a", 1: "b"}, (height, width))


def strip(left: int, right: int) -> np.ndarray:
    """4 × 20 pixels, true in the columns [left, right)."""
    bitmap = np.zeros((4, 20), dtype=bool)
    bitmap[:, left:right] = True
    return bitmap


def test_match_by_hand() -> None:
    truth = result_of([strip(0, 8), strip(10, 18)], [1, 1], [0, 0])
    # IoU with the first: 4/8 for the best-scored, 1 for the second, which comes too late; the third is of another
    # class; the fourth has 6/8 with the second truth
    predicted = result_of([strip(0, 4), strip(0, 8), strip(10, 18), strip(12, 18)], [0.9, 0.8, 0.7, 0.6], [0, 0, 1, 0])
    loose = match(predicted, truth, 0.5)
    assert loose.truth_of.tolist() == [0, -1, -1, 1]
    assert loose.found_by.tolist() == [0, 3]
    strict = match(predicted, truth, 0.75)
    assert strict.truth_of.tolist() == [-1, 0, -1, 1]
    nothing = match(predicted[[]], truth, 0.5)
    assert nothing.pairs == 0
    assert nothing.found_by.tolist() == [-1, -1]


@pytest.mark.parametrize("name", ["nuclei", "mushrooms", "coco_mini"])
def test_truth_is_the_annotation(name: str) -> None:
    folder = DATA / name
    data = read_coco(folder / "val.json", folder / "images")
    records = json.loads((folder / "val.json").read_text())["annotations"]
    for sample in data.samples:
        truth = truth_of(sample, data.classes)
        own = [r for r in records if r["image_id"] == sample.image_id and not r["iscrowd"]]
        assert len(truth) == len(own)
        for rle, record in zip(truth.masks.rle, own, strict=True):
            segmentation = record["segmentation"]
            if isinstance(segmentation, list):
                parts = reference.frPyObjects(segmentation, sample.height, sample.width)
                expected = reference.decode(reference.merge(parts))
            else:
                expected = reference.decode(segmentation)
            assert np.array_equal(reference.decode(rle), expected)


def test_predictions_on_a_crowd_are_not_shown() -> None:
    data = read_coco(DATA / "coco_mini" / "train.json", DATA / "coco_mini" / "images")
    sample = next(sample for sample in data.samples if any(one.crowd for one in sample.instances))
    every = replace(sample, instances=tuple(replace(one, crowd=False) for one in sample.instances))
    case = make_case(sample, truth_of(every, data.classes))  # predicts the crowds, too
    objects = sum(not one.crowd for one in sample.instances)
    assert (case.fit.objects, case.fit.predicted, case.fit.matched75) == (objects, objects, objects)


def test_only_errors_are_red() -> None:
    data = read_coco(DATA / "nuclei" / "val.json", DATA / "nuclei" / "images")
    sample = max(data.samples, key=lambda one: len(one.instances))
    truth = truth_of(sample, data.classes)
    moved = replace(
        truth[[0]],
        masks=Masks((encode(Region(np.ones(truth.orig_shape, bool), 0, 0), *truth.orig_shape),), truth.orig_shape),
    )
    shown = [make_case(sample, one) for one in (truth, truth[1:], moved)]
    reds = []
    for case in shown:
        side = max(read_image(case.path).shape)
        picture, *drawn = (np.asarray(panel).astype(int) for panel in draw_panels(case, side))
        assert picture.shape == (*truth.orig_shape, 3)
        reds.append([int((panel == PALETTE[WRONG]).all(axis=2).sum()) for panel in drawn])
    assert reds[0] == [0, 0]
    assert reds[1][0] > 0 == reds[1][1]
    assert min(reds[2]) > 0
    assert describe(shown[1])[1] == f"truth: {len(truth)}, 1 missed (red)"


def test_boxes_where_there_are_no_masks() -> None:
    data = read_coco(DATA / "nuclei" / "val.json", DATA / "nuclei" / "images")
    sample = data.samples[0]
    boxed = replace(sample, instances=tuple(replace(one, shape=None) for one in sample.instances))
    case = make_case(boxed, truth_of(sample, data.classes), boxes=True)
    assert case.fit.matched75 == case.fit.objects == len(sample.instances)
    assert make_case(boxed, truth_of(sample, data.classes)).fit.objects == 0

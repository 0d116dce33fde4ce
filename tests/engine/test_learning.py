"""A small model learns one real picture by heart, from its masks and from its boxes alone."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from condinst.config import Config
from condinst.data.formats.coco.read import read_coco
from condinst.data.sample import AnnotatedData
from condinst.data.truth import draw_truth
from condinst.engine.train import forget_masks, train
from condinst.evaluation.evaluate import evaluate
from condinst.ops.bitmaps.packed_masks import unpack
from condinst.predictor import Predictor

pytestmark = pytest.mark.usefixtures("fresh_accelerator")

NUCLEI = Path(__file__).parent.parent / "data" / "nuclei"


def part_of(source: Path, target: Path, names: list[str]) -> Path:
    """The annotations of some pictures of a data set, with the classes that occur in them."""
    document = json.loads(source.read_bytes())
    document["images"] = [image for image in document["images"] if image["file_name"] in names]
    ids = {image["id"] for image in document["images"]}
    document["annotations"] = [record for record in document["annotations"] if record["image_id"] in ids]
    classes = {record["category_id"] for record in document["annotations"]}
    document["categories"] = [category for category in document["categories"] if category["id"] in classes]
    target.write_text(json.dumps(document))
    return target


LEARNER: dict[str, Any] = {
    "model": {
        "backbone": {"name": "mobilenetv2_050", "norm": "batch", "frozen_stages": 0},
        "fpn_channels": 64,
        "head": {"convs": 2, "channels": 64},
        "mask_branch": {"convs": 2, "channels": 32},
        "pixel_mean": [127.5] * 3,
        "pixel_std": [60] * 3,
    },
    "input": {"shorter": 384, "longer": 640},
    "augment": {"shorter": [384], "longer": 640, "flip_horizontal": 0},
    "train": {
        "init": "none",
        "iterations": 160,
        "batch_size": 1,
        "optimizer": "adamw",
        "lr": 0.002,
        "weight_decay": 0,
        "warmup_iterations": 20,
        "schedule": "cosine",
        "clip_norm": 5,
        "workers": 0,
    },
}


@pytest.mark.quality
@pytest.mark.timeout(1500)
def test_one_picture_is_learnt_by_heart(tmp_path: Path) -> None:
    """Fifteen touching nuclei, from random weights: masks within a fraction of a pixel, by the data set's own scorer.

    Mean AP over IoU 0.5 to 0.95, so a shift of half a pixel anywhere between file and mask would show.
    """
    annotations = part_of(NUCLEI / "val.json", tmp_path / "one.json", ["45f059cf21d85ecf.png"])
    train(Config.from_dict(LEARNER), read_coco(annotations, NUCLEI / "images"), tmp_path / "run")
    scores = evaluate(read_coco(annotations, NUCLEI / "images"), Predictor(tmp_path / "run", "cpu"))
    assert scores.truths == 15
    assert scores.segm.AP > 0.9
    assert scores.bbox.AP > 0.9


def filled_boxes_score(data: AnnotatedData) -> float:
    """Mask AP of the true boxes, filled: the mean over IoU 0.5 to 0.95 of the part of the masks that they match."""
    identity = np.array([[1.0, 0, 0], [0, 1, 0]])
    overlaps = []
    for sample, boxes in zip(data.samples, forget_masks(data).samples, strict=True):
        drawn = [draw_truth(s, identity, s.height, s.width, 1) for s in (sample, boxes)]
        every, size = torch.arange(len(drawn[0].labels)), (sample.height, sample.width)
        truth, filled = (unpack(one.mask_pixels, one.mask_places, every, size) for one in drawn)
        overlaps += [((t & f).sum() / (t | f).sum()).item() for t, f in zip(truth, filled, strict=True)]
    return float(np.mean([[overlap >= least for overlap in overlaps] for least in np.arange(0.5, 1, 0.05)]))


@pytest.mark.quality
@pytest.mark.timeout(1500)
def test_one_picture_is_learnt_from_its_boxes(tmp_path: Path) -> None:
    """The masks follow the nuclei although training saw boxes alone: far better than the boxes themselves."""
    annotations = part_of(NUCLEI / "val.json", tmp_path / "one.json", ["45f059cf21d85ecf.png"])
    data = read_coco(annotations, NUCLEI / "images")
    settings = [
        "targets.supervision=boxes",
        "targets.mask_sampling=best_per_image",
        "targets.max_mask_positives=64",
        "box_supervision.warmup_iterations=60",
    ]
    train(Config.from_dict(LEARNER).with_overrides(settings), data, tmp_path / "run")
    with (tmp_path / "run" / "log.csv").open() as file:
        logged = list(csv.DictReader(file))
    assert float(logged[-1]["projection"]) < 0.05 * float(logged[0]["projection"])
    assert {row["mask"] for row in logged} == {"0"}
    scores = evaluate(read_coco(annotations, NUCLEI / "images"), Predictor(tmp_path / "run", "cpu"))
    assert 0.35 < filled_boxes_score(data) < 0.4
    assert scores.segm.AP > 0.5
    assert scores.bbox.AP > 0.9
